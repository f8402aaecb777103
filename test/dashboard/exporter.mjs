// postgres_exporter with the queries of the example, as a monitor: each metric that the
// dashboard of Grafana shows is there.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { done_testing, ok } from '../clients/lib/tap.mjs';
import { psql } from './lib/psql.mjs';

const examples = fileURLToPath(new URL('../../examples/monitoring/', import.meta.url));

psql('postgres', '-c', 'CREATE DATABASE exported', '-c', 'CREATE ROLE exporter LOGIN');
psql('exported', '-f', fileURLToPath(new URL('plenty.sql', import.meta.url)), '-c', `SELECT coord.grant_monitor('exporter')`);

const port = await new Promise(resolve => {
	const server = createServer().listen(0, '127.0.0.1', () => {
		const { port } = server.address();
		server.close(() => resolve(port));
	});
});
const exporter = spawn('prometheus-postgres-exporter', [`--extend.query-path=${examples}postgres_exporter.yml`,
	`--web.listen-address=127.0.0.1:${port}`, '--disable-settings-metrics', '--disable-default-metrics'], {
	env: { ...process.env, DATA_SOURCE_NAME: `user=exporter dbname=exported host=${process.env.PGHOST} port=${process.env.PGPORT} sslmode=disable` },
	stdio: ['ignore', 'ignore', 'pipe'],
});
let said = '';
exporter.stderr.on('data', chunk => { said += chunk; });
const ended = new Promise(resolve => exporter.on('exit', resolve));
try {
	let text;
	for (let tries = 0; text === undefined && tries < 300 && exporter.exitCode === null; tries++) {
		try {
			text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
		}
		catch {
			await new Promise(resolve => setTimeout(resolve, 100));
		}
	}
	ok(text !== undefined, 'the exporter answers', said);
	text ??= '';
	const metrics = new Set([...text.matchAll(/^(coord_\w+)[{ ]/gm)].map(match => match[1]));
	const dashboard = JSON.parse(readFileSync(`${examples}grafana.json`, 'utf8'));
	const used = new Set(JSON.stringify(dashboard.panels.flatMap(panel => panel.targets.map(target => target.expr))).match(/\bcoord_\w+/g));
	for (const metric of [...used].sort())
		ok(metrics.has(metric), `${metric}, which Grafana is to show, is there`);
	const value = pattern => Number(text.match(new RegExp(`^${pattern} (\\S+)$`, 'm'))?.[1]);
	ok(value('coord_worker_up\\{.*\\}') === 1, 'the worker is up');
	ok(value('coord_queue_paused\\{.*queue="crawler".*\\}') === 1, 'a queue is paused');
	ok(value('coord_queue_blocked\\{.*queue="reindex".*\\}') === 9, 'another one has blocked tasks');
	ok(value('coord_agents_count\\{.*status="active".*\\}') === 14, 'agents are counted');
	ok(value('coord_queue_stats_completed_per_second\\{.*queue="image-resize".*\\}') > 0, 'something was completed');
	ok(value('pg_exporter_last_scrape_error\\{?.*\\}?') === 0, 'and no query failed', said);
}
finally {
	exporter.kill();
	await ended;
}
await done_testing();
