// Builds the programs of native/test/cuda, which hold each kernel of the CUDA backend against the CPU's, and runs them; with
// --bench those of native/cuda/bench, which print times as lines of JSON (emulated: one small run of each, to see that it works).
// Without names the emulated backend is made too, build/cuda-emulated/switchyard_cuda_emulated.so, for tests of whole models.
// Usage: node scripts/test-cuda.mjs [--device] [--bench] [--build-only] [NAME…]
// Without --device kernels are built as plain C++ and run by the emulation (native/cuda/emulation): no GPU is needed. With it
// nvcc builds them for Hopper, and they run on the machine's GPU; --build-only makes programs for another machine.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaSources, nativeSources } from './native-sources.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const args = process.argv.slice(2);
const device = args.includes('--device');
const bench = args.includes('--bench');
const names = args.filter((arg) => !arg.startsWith('--'));
const home = bench ? 'native/cuda/bench' : 'native/test/cuda';
const tests = readdirSync(path.join(root, home))
  .filter((file) => /\.c[cu]$/.test(file) && (names.length === 0 || names.includes(file.slice(0, -3))))
  .sort();
if (tests.length === 0) {
  console.error(`CUDA tests: no program ${names.join(', ')} in ${home}`);
  process.exit(1);
}

const folder = `build/cuda-test/${device ? 'device' : 'emulated'}`;
const cuda = process.env.CUDA_HOME ?? '/usr/local/cuda';
const common = '-std=c++20 -pthread -Inative';
const hostFlags = `${common} -O2 -g1 -fno-math-errno -ffp-contract=off`;
const sanitize = '-fsanitize=undefined -fno-sanitize-recover=all';
const emulated = '-DSWITCHYARD_EMULATED -Inative/cuda/emulation';
const own = (source) => `${folder}/${source.replace(/^native\//, '').replace(/\.(cc|cu)$/, '.o')}`;
// The CPU's kernels, as the addon has been built with them; where it has not, they are built here.
const addon = 'build/Release/obj.target/switchyard';
const hasAddon = existsSync(path.join(root, addon));
const object = (source) =>
  hasAddon && library.includes(source) ? `${addon}/${source.replace(/\.cc$/, '.o')}` : own(source);
const library = nativeSources().filter((source) => !source.startsWith('native/binding/'));
const kernels = cudaSources({ emulated: !device });
const sources = tests.map((file) => `${home}/${file}`);
const programs = sources.map((source) => own(source).slice(0, -2));
// The backend needs the addon's objects, which are made for shared libraries.
const backend =
  hasAddon && !device && !bench && names.length === 0 && 'build/cuda-emulated/switchyard_cuda_emulated.so';
const shared = library.filter((source) => /\/(formats\/|runtime\/(error|types)\.)/.test(source));

const makefile = [
  `HOST := ${hostFlags}`,
  device
    ? `KERNEL := ${common.replace('-pthread', '-Xcompiler -pthread,-fPIC')} -O3 -lineinfo -gencode=arch=compute_90a,code=sm_90a`
    : `KERNEL := ${common} -fPIC -O1 -g1 -Wall -Wno-unknown-pragmas ${sanitize} ${emulated}`,
  `LIBRARY := ${[...library, ...kernels].map(object).join(' ')}`,
  `all: ${programs.join(' ')}${backend ? ` ${backend}` : ''}`,
  '.SECONDARY:',
  `${folder}/cuda/%.o: native/cuda/%.cu scripts/test-cuda.mjs`,
  `\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@${device ? 'nvcc' : '$(CXX) -x c++'} $(KERNEL) -MMD -MP -c $< -o $@`,
  `${folder}/cuda/%.o: native/cuda/%.cc scripts/test-cuda.mjs`,
  '\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@$(CXX) $(KERNEL) -MMD -MP -c $< -o $@',
  `${folder}/test/%.o: native/test/%.cu scripts/test-cuda.mjs`,
  `\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@${device ? 'nvcc' : '$(CXX) -x c++'} $(KERNEL) -MMD -MP -c $< -o $@`,
  `${folder}/test/%.o: native/test/%.cc scripts/test-cuda.mjs`,
  `\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@$(CXX) $(HOST) ${device ? `-I${cuda}/include` : `${sanitize} ${emulated}`} -MMD -MP -c $< -o $@`,
  `${folder}/%.o: native/%.cc scripts/test-cuda.mjs`,
  '\t@mkdir -p $(@D)\n\t@echo "  $<"\n\t@$(CXX) $(HOST) -MMD -MP -c $< -o $@',
  ...(backend
    ? [
        `${backend}: ${[...shared, ...kernels].map(object).join(' ')}`,
        `\t@mkdir -p $(@D)\n\t@$(CXX) -shared $^ -o $@ ${sanitize} -pthread -Wl,--no-undefined`,
      ]
    : []),
  `${programs.join(' ')}: %: %.o $(LIBRARY)`,
  device
    ? `\t@$(CXX) $^ -o $@ -static-libstdc++ -static-libgcc -pthread -L${cuda}/lib64 -lcudart_static -lrt -ldl`
    : `\t@$(CXX) $^ -o $@ ${sanitize} -pthread -ldl`,
  `-include ${[...library, ...kernels, ...sources].map((s) => object(s).replace(/o$/, 'd')).join(' ')}`,
].join('\n');
mkdirSync(path.join(root, folder), { recursive: true });
const makefilePath = path.join(root, folder, 'makefile');
if (!existsSync(makefilePath) || readFileSync(makefilePath, 'utf8') !== `${makefile}\n`) {
  writeFileSync(makefilePath, `${makefile}\n`);
}

const jobs = process.env.JOBS || availableParallelism();
const built = spawnSync('make', ['-f', `${folder}/makefile`, `-j${jobs}`], { cwd: root, stdio: 'inherit' });
if (built.error) console.error(`CUDA tests: make did not start (${built.error.message})`);
if (built.status !== 0) process.exit(1);
if (args.includes('--build-only')) process.exit(0);

let failed = 0;
for (const program of programs) {
  const run = spawnSync(path.join(root, program), bench && !device ? ['--smoke'] : [], {
    cwd: root,
    stdio: 'inherit',
    timeout: 10 * 60_000,
  });
  if (run.status !== 0) failed++;
  const verdict = run.status === 0 ? 'passed' : 'FAILED';
  console.log(
    `${verdict} ${path.basename(program)}${run.status === 0 ? '' : ` (${run.signal ?? run.status})`}`,
  );
}
console.log(
  `CUDA tests (${device ? 'device' : 'emulated'}): ${programs.length - failed} passed, ${failed} failed`,
);
process.exit(failed === 0 ? 0 : 1);
