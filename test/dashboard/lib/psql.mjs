// What psql says, of statements that must not fail.

import { execFileSync } from 'node:child_process';

export const psql = (database, ...options) => execFileSync('psql', ['-qAtX', '-v', 'ON_ERROR_STOP=1', '-d', database, ...options],
	{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
