// Prints "PASSED FAILED" of a vitest JSON report. Usage: count-tests.mjs REPORT EXIT_STATUS
import { existsSync, readFileSync } from 'node:fs';

const [report, status] = process.argv.slice(2);
const read = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {};
const { numPassedTests = 0, numFailedTests = 0 } = read;
// A run that ended badly with no failed test (a crash, a file that does not load, no report) is one failure.
console.log(numPassedTests, numFailedTests || (Number(status) === 0 ? 0 : 1));
