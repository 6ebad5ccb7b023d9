// Builds every program of native/test with the native sources (all but the binding) under a sanitizer, and runs it.
// Usage: node scripts/test-native.mjs [--sanitize=address,undefined | --sanitize=thread | --sanitize=none] [NAME…]
//        node scripts/test-native.mjs --arm64 [NAME…]   cross-compiled, run by an emulator: the NEON tier on an x64 machine
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { nativeSources } from './native-sources.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const args = process.argv.slice(2);
const option = args.find((arg) => arg.startsWith('--sanitize='));
const arm64 = args.includes('--arm64');
const sanitize = arm64 ? 'none' : (option?.split('=')[1] ?? 'address,undefined');
/** What builds and what runs the programs for another processor. */
const cross = arm64
  ? { compiler: process.env.CXX_ARM64 ?? 'aarch64-linux-gnu-g++-12', emulator: 'qemu-aarch64-static' }
  : null;
const names = args.filter((arg) => !arg.startsWith('--'));

const tests = (existsSync(path.join(root, 'native/test')) ? readdirSync(path.join(root, 'native/test')) : [])
  .filter((file) => file.endsWith('.cc') && (names.length === 0 || names.includes(file.slice(0, -3))))
  .sort();
if (tests.length === 0) {
  console.error(`native tests: no program ${names.join(', ')} in native/test`);
  process.exit(1);
}

// Where the machine has all below AMX but not AMX, its kernels are tested with the tile instructions in software.
const emulate = !cross && lacksOnlyAmx();
// GCC ends vector functions with vzeroupper only under its expensive optimizations; without it all scalar code that
// runs after one crawls (measured: 50 times slower).
const flags = [
  '-std=c++20 -O1 -fexpensive-optimizations -g -fno-omit-frame-pointer -fno-math-errno -ffp-contract=off -Wall -Wextra -pthread -Inative',
  emulate ? '-DSWITCHYARD_EMULATED_AMX' : '',
  sanitize === 'none' ? '' : `-fsanitize=${sanitize} -fno-sanitize-recover=all`,
].join(' ');
const folder = `build/native-test/${arm64 ? 'arm64' : sanitize.replace(',', '-')}`;
const object = (source) => `${folder}/${source.replace(/^native\//, '').replace(/\.cc$/, '.o')}`;
const library = nativeSources().filter((source) => !source.startsWith('native/binding/'));
const programs = tests.map((file) => `${folder}/test/${file.slice(0, -3)}`);

// A makefile, for its depfiles and its jobs: only what changed is compiled again.
const makefile = [
  cross ? `CXX := ${cross.compiler}` : '',
  `FLAGS := ${flags}${cross ? ' -static' : ''}`,
  `LIBRARY := ${library.map(object).join(' ')}`,
  `all: ${programs.join(' ')}`,
  '.SECONDARY:',
  emulate ? `${folder}/cpu/isa/linear_amx.o: FLAGS += -include native/test/amx_emulation.h` : '',
  `${folder}/%.o: native/%.cc ${folder}/makefile`,
  '\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@$(CXX) $(FLAGS) -MMD -MP -c $< -o $@',
  `${folder}/test/%: ${folder}/test/%.o $(LIBRARY)`,
  '\t@$(CXX) $(FLAGS) $^ -o $@ -ldl',
  `-include ${[...library, ...tests.map((file) => `native/test/${file}`)].map((s) => object(s).replace(/o$/, 'd')).join(' ')}`,
].join('\n');
mkdirSync(path.join(root, folder), { recursive: true });
writeIfChanged(path.join(root, folder, 'makefile'), `${makefile}\n`);

function lacksOnlyAmx() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false;
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];
  return flags.includes('avx512_bf16') && flags.includes('avx512_vnni') && !flags.includes('amx_int8');
}

function writeIfChanged(file, text) {
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) writeFileSync(file, text);
}

const jobs = process.env.JOBS || availableParallelism();
const built = spawnSync('make', ['-f', `${folder}/makefile`, `-j${jobs}`], { cwd: root, stdio: 'inherit' });
if (built.error) console.error(`native tests: make did not start (${built.error.message})`);
if (built.status !== 0) process.exit(1);

let failed = 0;
for (const program of programs) {
  const file = path.join(root, program);
  const [command, ...rest] = cross ? [cross.emulator, file] : [file];
  const run = spawnSync(command, rest, { cwd: root, stdio: 'inherit', timeout: 10 * 60_000 });
  const passed = run.status === 0;
  if (!passed) failed++;
  console.log(
    `${passed ? 'passed' : 'FAILED'} ${path.basename(program)}${passed ? '' : ` (${run.signal ?? run.status})`}`,
  );
}
console.log(
  `native tests (${arm64 ? 'arm64, emulated' : sanitize}): ${programs.length - failed} passed, ${failed} failed`,
);
process.exit(failed === 0 ? 0 : 1);
