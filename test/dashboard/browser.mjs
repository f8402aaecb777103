// The dashboard in a headless Chromium: it asks for nothing from elsewhere, says nothing on
// the console, is no wider than a phone, and can be read in the light and in the dark.
//
// With PICTURES=directory it leaves pictures there.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { done_testing, ok } from '../clients/lib/tap.mjs';
import { with_tab } from './lib/chromium.mjs';
import { psql } from './lib/psql.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'dashboard-'));

// A page of a database of its own, as a file.
function page(name, ...made_by) {
	psql('postgres', '-c', `CREATE DATABASE ${name}`);
	psql(name, ...made_by);
	const file = join(directory, `${name}.html`);
	writeFileSync(file, psql(name, '-c', 'SELECT coord.dashboard()'));
	return `file://${file}`;
}
const pages = {
	plenty: page('plenty', '-f', join(here, 'plenty.sql')),
	empty: page('empty', '-c', 'CREATE EXTENSION coord'),
};
if (process.env.PICTURES)
	mkdirSync(process.env.PICTURES, { recursive: true });
const screens = [['desk', 1280, 900], ['tablet', 768, 1024], ['phone', 360, 800], ['small', 320, 640]];

// What follows runs in the page, so it is written without anything of this file.

// The texts with too little contrast to what is behind them (WCAG 2, AA), and those smaller than 12 px.
function hard_to_read() {
	const channels = colour => colour.match(/[\d.]+/g).map(Number);
	const luminance = colour => {
		const [r, g, b] = channels(colour).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const behind = element => {
		for (; element; element = element.parentElement) {
			const colour = getComputedStyle(element).backgroundColor;
			if (channels(colour)[3] !== 0)
				return colour;
		}
		return 'rgb(255, 255, 255)';
	};
	const found = [];
	let looked_at = 0;
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const element = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || element.closest('svg') || !element.getClientRects().length)
			continue;
		const style = getComputedStyle(element);
		const [lighter, darker] = [luminance(style.color), luminance(behind(element))].sort((a, b) => b - a);
		looked_at++;
		if ((lighter + 0.05) / (darker + 0.05) < 4.5 || parseFloat(style.fontSize) < 11.9)
			found.push([walker.currentNode.data.trim().slice(0, 40), style.color, behind(element), style.fontSize]);
	}
	return { looked_at, found };
}

// What is where, and what there is.
function layout() {
	const root = document.documentElement;
	return {
		wide: root.scrollWidth - root.clientWidth,
		// what sticks out of the page, unless it scrolls in a box of its own
		out: [...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll table, caption, svg') && e.getBoundingClientRect().right > root.clientWidth + 1)
			.map(e => e.outerHTML.slice(0, 100)),
		boxes: [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX !== 'auto').length,
		tables: document.querySelectorAll('table').length,
		bars: [...document.querySelectorAll('svg[role=img] rect')].map(e => e.getBoundingClientRect()).filter(r => r.width >= 2 && r.height >= 1.9).length,
		mode: document.compatMode,
		charset: document.characterSet,
		scripts: document.querySelectorAll('script, img, iframe, [onerror]').length,
	};
}

await with_tab(async tab => {
	for (const [name, url] of Object.entries(pages)) {
		for (const [screen, width, height] of screens) {
			for (const scheme of ['light', 'dark']) {
				await tab.show(url, width, height, scheme);
				if (process.env.PICTURES)
					await tab.picture(join(process.env.PICTURES, `${name}-${screen}-${scheme}.png`));
				const seen = await tab.value(`(${layout})()`);
				const what = `${name}, ${screen}, ${scheme}`;
				ok(seen.wide === 0 && seen.out.length === 0 && seen.boxes === 0, `${what}: nothing is wider than the screen`, seen);
				const read = await tab.value(`(${hard_to_read})()`);
				ok(read.looked_at > 30 && read.found.length === 0, `${what}: all text can be read`, read);
			}
		}
		const seen = await tab.value(`(${layout})()`);
		ok(seen.mode === 'CSS1Compat' && seen.charset === 'UTF-8', `${name}: it is a page of today, in UTF-8`, seen);
		ok(seen.scripts === 0, `${name}: no value of a user has become an element`, seen);
		ok(name === 'empty' ? seen.bars === 0 && seen.tables === 1 : seen.bars > 60 && seen.tables === 5, `${name}: tables and bars are there`, seen);
	}

	// without colours: bars, and parts of bars, differ by their patterns
	await tab.show(pages.plenty, 1280, 900);
	const fills = await tab.value(`['claimed', 'pending', 'scheduled', 'blocked', 'dead'].map(c => getComputedStyle(document.querySelector('rect.' + c)).fill)`);
	ok(fills.filter(fill => fill.startsWith('url(')).length === 4 && new Set(fills).size === 5, 'each state has a pattern of its own', fills);
	const tree = (await tab.call('Accessibility.getFullAXTree')).nodes;
	const image = tree.find(node => node.role?.value === 'image' && node.name?.value.startsWith('Tasks finished in each minute'));
	ok(image !== undefined && /completed, at most/.test(image.description?.value), 'a screen reader is told what the chart shows', image);
	ok(tree.filter(node => node.role?.value === 'table' && node.name?.value).length >= 4, 'and what each table is');

	const elsewhere = tab.seen.requests.filter(url => !/^(file|data):/.test(url));
	ok(tab.seen.requests.length >= 17 && elsewhere.length === 0, 'nothing was asked for from elsewhere', elsewhere);
	ok(tab.seen.console.length === 0, 'and nothing was said on the console', tab.seen.console);

	// the watch of this test itself
	await tab.value(`console.error('seen')`);
	await tab.value(`fetch('http://127.0.0.1:9/').catch(() => 0)`);
	ok(tab.seen.console.length >= 2, 'what a page says, or is refused by its policy, would be seen', tab.seen.console);
});

// what parses HTML strictly finds nothing wrong
for (const [name, url] of Object.entries(pages)) {
	const file = fileURLToPath(url);
	let said = '';
	try {
		execFileSync('/usr/bin/python3', ['-c', `import html5lib, sys; p = html5lib.HTMLParser(strict=False); p.parse(open(sys.argv[1], 'rb'), transport_encoding=None)
print(*[(e[0], e[1]) for e in p.errors if e[1] != 'non-void-element-with-trailing-solidus'])`, file], { encoding: 'utf8' })
			.trim().split('\n').filter(line => line).forEach(line => { said += line; });
	}
	catch (error) {
		said = String(error);
	}
	ok(said === '', `${name}: it is HTML 5 without a fault`, said);
}

rmSync(directory, { recursive: true });
await done_testing();
