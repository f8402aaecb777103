/*
 * style.h
 *		How the dashboard looks: colours, patterns and layout.
 *
 * The colours of charts are those of Okabe and Ito, which people who are colour-blind can
 * tell apart; each has a pattern and a label too, so that no meaning hangs on a colour.
 * Text has a contrast of 4.5:1 or more, in the light and in the dark.
 */
#ifndef COORD_DASHBOARD_STYLE_H
#define COORD_DASHBOARD_STYLE_H

#define DASHBOARD_STYLE \
":root{color-scheme:light dark;--page:#fff;--card:#f5f6f8;--ink:#1a1f24;--soft:#4a545e;--line:#cfd5db;" \
"--blue:#0072b2;--orange:#e69f00;--sky:#56b4e9;--purple:#cc79a7;--red:#d55e00;--warn:#fff1cc;--stroke:#1a1f24}\n" \
"@media(prefers-color-scheme:dark){:root{--page:#12161b;--card:#1c2229;--ink:#e9edf1;--soft:#b4bec8;--line:#3b4550;" \
"--blue:#3a9bdc;--warn:#3d2f0a;--stroke:#12161b}}\n" \
"*{box-sizing:border-box}\n" \
"body{margin:0 auto;padding:1rem;max-width:84rem;background:var(--page);color:var(--ink);" \
"font:1rem/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;overflow-wrap:anywhere}\n" \
"h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:0 0 .5rem}\n" \
"p{margin:.4rem 0}code{font:.9em ui-monospace,'DejaVu Sans Mono',monospace}\n" \
".facts,.note,figcaption,footer{color:var(--soft);font-size:.875rem}\n" \
".state{border-left:.35rem solid var(--blue);background:var(--card);padding:.5rem .75rem;border-radius:.25rem}\n" \
".state.warning{border-color:var(--red);background:var(--warn)}\n" \
"time{white-space:nowrap}section{margin:1.75rem 0 0}footer{margin:1.75rem 0 0;border-top:1px solid var(--line)}\n" \
"dl.glance{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1rem 0}\n" \
".glance div{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.5rem .75rem}\n" \
".glance dt{color:var(--soft);font-size:.875rem}.glance dd{margin:0;font-size:1.4rem;font-weight:600;" \
"font-variant-numeric:tabular-nums;white-space:nowrap}\n" \
".glance small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}\n" \
".scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.4rem}\n" \
".scroll:focus-visible,summary:focus-visible{outline:3px solid var(--blue);outline-offset:2px}\n" \
"table{border-collapse:collapse;width:100%;font-size:.85rem}\n" \
"caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\n" \
"th,td{padding:.4rem .5rem;text-align:left;vertical-align:top;unicode-bidi:isolate}\n" \
"thead th{background:var(--card);color:var(--soft);white-space:nowrap;vertical-align:bottom}\n" \
"tbody tr{border-top:1px solid var(--line)}tbody th{font-weight:600}\n" \
".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.w{white-space:nowrap}\n" \
".long{min-width:17rem;max-width:26rem}.name{min-width:9rem;max-width:18rem}\n" \
".name small{display:block;font-weight:400;color:var(--soft)}.zero{color:var(--soft)}\n" \
".tag{display:inline-block;border:1px solid currentColor;border-radius:.25rem;padding:0 .3rem;font-size:.75rem;" \
"font-weight:600;white-space:nowrap}\n" \
".bar{display:block;width:7rem;height:.9rem}\n" \
".key{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.4rem 0;padding:0;list-style:none;font-size:.875rem;" \
"color:var(--soft)}\n" \
".key svg{width:1.4rem;height:.8rem;margin-right:.35rem;vertical-align:baseline}\n" \
"figure{margin:0}.plot{display:grid;grid-template-columns:auto 1fr;column-gap:.5rem}\n" \
".scale{display:grid;grid-template-rows:130px 50px;text-align:right;font-size:.8rem;color:var(--soft);" \
"font-variant-numeric:tabular-nums;line-height:1}\n" \
".scale span{display:flex;flex-direction:column;justify-content:space-between;align-items:end}\n" \
".plot svg{display:block;width:100%;height:180px}\n" \
".axis{grid-column:2;display:flex;justify-content:space-between;font-size:.8rem;color:var(--soft);margin-top:.2rem}\n" \
"details{margin:.5rem 0}summary{cursor:pointer;font-size:.875rem}details .scroll{max-height:20rem;overflow-y:auto;" \
"margin-top:.4rem}\n" \
"details .scroll table{width:auto;min-width:50%}\n" \
".patterns{position:absolute}\n" \
".claimed{fill:var(--blue)}.pending{fill:url(#hatch)}.scheduled{fill:url(#dots)}.blocked{fill:url(#lines)}.dead{fill:url(#cross)}\n" \
".ground-pending{fill:var(--orange)}.ground-scheduled{fill:var(--sky)}.ground-blocked{fill:var(--purple)}.ground-dead{fill:var(--red)}\n" \
".mark{stroke:var(--stroke);stroke-width:1.1;fill:none}.dot{fill:var(--stroke)}\n" \
".grid{stroke:var(--line);stroke-width:1}.base{stroke:var(--soft);stroke-width:1}\n" \
"@media(max-width:40rem){body{padding:.75rem}.glance{gap:.4rem}dl.glance{grid-template-columns:repeat(auto-fit,minmax(7rem,1fr))}" \
".name{min-width:8rem;max-width:10rem}}\n" \
"@media print{.scroll{overflow:visible}}\n"

/* the patterns that go with them, for all charts of the page */
#define DASHBOARD_PATTERNS \
"<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>" \
"<pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect class=\"ground-pending\" width=\"6\" height=\"6\"/>" \
"<path class=\"mark\" d=\"M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2\"/></pattern>" \
"<pattern id=\"dots\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\"><rect class=\"ground-scheduled\" width=\"5\" height=\"5\"/>" \
"<circle class=\"dot\" cx=\"2.5\" cy=\"2.5\" r=\"1\"/></pattern>" \
"<pattern id=\"lines\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\"><rect class=\"ground-blocked\" width=\"5\" height=\"5\"/>" \
"<path class=\"mark\" d=\"M2.5,0 v5\"/></pattern>" \
"<pattern id=\"cross\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect class=\"ground-dead\" width=\"6\" height=\"6\"/>" \
"<path class=\"mark\" d=\"M0,0 l6,6 M6,0 l-6,6\"/></pattern>" \
"</defs></svg>\n"

#endif							/* COORD_DASHBOARD_STYLE_H */
