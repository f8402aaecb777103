// A headless Chromium, spoken to by the DevTools protocol; needs nothing beyond Node 22.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// What needs a display, a network or rights that a test has not got is switched off.
const FLAGS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
	'--disable-extensions', '--disable-background-networking', '--disable-component-update', '--hide-scrollbars',
	'--remote-debugging-port=0'];

// One tab.  "seen" has what the page asked for, and what was said on its console.
export class Tab {
	#socket;
	#session;
	#next = 1;
	#waiting = new Map();
	#loaded = () => {};
	seen = { requests: [], console: [] };

	static async open(socket) {
		const tab = new Tab();
		tab.#socket = socket;
		socket.onmessage = message => tab.#heard(JSON.parse(message.data));
		const { targetId } = await tab.call('Target.createTarget', { url: 'about:blank' });
		tab.#session = (await tab.call('Target.attachToTarget', { targetId, flatten: true })).sessionId;
		for (const domain of ['Page', 'Network', 'Runtime', 'Log'])
			await tab.call(`${domain}.enable`);
		return tab;
	}

	#heard(message) {
		if (message.id !== undefined) {
			const { resolve, reject } = this.#waiting.get(message.id);
			this.#waiting.delete(message.id);
			if (message.error)
				reject(new Error(message.error.message));
			else
				resolve(message.result);
		}
		else if (message.method === 'Page.loadEventFired')
			this.#loaded();
		else if (message.method === 'Network.requestWillBeSent')
			this.seen.requests.push(message.params.request.url);
		else if (['Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded'].includes(message.method))
			this.seen.console.push(JSON.stringify(message.params));
	}

	call(method, params = {}) {
		const id = this.#next++;
		return new Promise((resolve, reject) => {
			this.#waiting.set(id, { resolve, reject });
			this.#socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
		});
	}

	// Shows a page as on a screen of that size, in the light or in the dark.
	async show(url, width, height, scheme = 'light') {
		await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
		await this.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
		const loaded = new Promise(resolve => { this.#loaded = resolve; });
		await this.call('Page.navigate', { url });
		await loaded;
	}

	// The value of an expression of JavaScript in the page, whose own policy does not concern us.
	async value(expression) {
		const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
		if (exceptionDetails)
			throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
		return result.value;
	}

	async picture(file, whole = false) {
		const { data } = await this.call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
		writeFileSync(file, Buffer.from(data, 'base64'));
	}
}

// with_tab(work): gives a tab to an asynchronous function, and ends the browser after it.
export async function with_tab(work) {
	const profile = mkdtempSync(join(tmpdir(), 'chromium-'));
	const browser = spawn('chromium', [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
	const ended = new Promise(resolve => browser.on('exit', resolve));
	try {
		const address = await new Promise((resolve, reject) => {
			let said = '';
			browser.stderr.on('data', chunk => {
				said += chunk;
				const found = said.match(/DevTools listening on (\S+)/);
				if (found)
					resolve(found[1]);
			});
			browser.on('error', reject);
			browser.on('exit', () => reject(new Error(`chromium ended: ${said}`)));
		});
		const socket = new WebSocket(address);
		await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = () => reject(new Error('no connection to chromium')); });
		await work(await Tab.open(socket));
		socket.close();
	}
	finally {
		browser.kill();
		await ended;
		rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
	}
}
