// Builds the addon into build/Release. Downloads nothing: Node's headers come from a configured nodedir, from beside
// the running Node, or else from the node-api-headers package. Only what changed is compiled again.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { nativeSources } from './native-sources.mjs';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));
const build = path.join(root, 'build');

function stop(sentence) {
  console.error(`switchyard: ${sentence}`);
  process.exit(1);
}

const works = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** CXX may hold flags or a launcher ("ccache g++"), so it is split as make would. */
function checkTools() {
  if (process.platform === 'win32') return; // node-gyp itself finds Visual Studio and says so when it cannot
  const [command, ...flags] = (process.env.CXX || (process.platform === 'darwin' ? 'c++' : 'g++'))
    .trim()
    .split(/\s+/);
  const help = process.platform === 'darwin' ? 'xcode-select --install' : 'apt-get install g++ make python3';
  if (!works(command, ...flags, '--version')) {
    stop(
      `no C++ compiler was found (tried '${command}'); install one that knows C++20 (${help}) or set CXX.`,
    );
  }
  const probe = spawnSync(command, [...flags, '-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], {
    input: '#include <bit>\n#include <span>\nint main() { return std::popcount(0u); }\n',
    encoding: 'utf8',
  });
  if (probe.status !== 0) {
    stop(`the C++ compiler '${command}' does not know C++20; install GCC 12, Clang 15 or newer, or set CXX.`);
  }
  if (!works('make', '--version')) stop(`make was not found; install it (${help}).`);
  const python = process.env.npm_config_python || process.env.PYTHON || 'python3';
  if (!works(python, '--version')) stop(`Python 3 was not found (node-gyp needs it); install it (${help}).`);
}

/** A folder with include/node/{node_api.h, common.gypi}. */
function findNodeDir() {
  const candidates = [
    process.env.npm_config_nodedir,
    path.resolve(process.execPath, '../..'),
    path.resolve(realpathSync(process.execPath), '../..'),
  ];
  for (const folder of candidates) {
    if (!folder) continue;
    const include = path.join(folder, 'include/node');
    if (existsSync(path.join(include, 'node_api.h')) && existsSync(path.join(include, 'common.gypi')))
      return folder;
  }
  // The addon speaks Node-API only, so these few headers are all it needs.
  const folder = path.join(build, 'headers');
  const include = path.join(folder, 'include/node');
  mkdirSync(include, { recursive: true });
  cpSync(require('node-api-headers').include_dir, include, { recursive: true });
  cpSync(path.join(root, 'scripts/headers'), include, { recursive: true });
  writeFileSync(path.join(include, 'config.gypi'), JSON.stringify(process.config));
  return folder;
}

/** Changes when the generated makefiles are out of date: other sources, settings, headers or Node. */
function configuration(nodeDir) {
  const hash = createHash('sha256');
  for (const file of ['binding.gyp', 'package.json']) hash.update(readFileSync(path.join(root, file)));
  const { CC, CXX, CFLAGS, CXXFLAGS, LDFLAGS } = process.env;
  hash.update(JSON.stringify([nativeSources(), nodeDir, root, process.version, process.arch]));
  hash.update(JSON.stringify([CC, CXX, CFLAGS, CXXFLAGS, LDFLAGS]));
  return hash.digest('hex');
}

/** A package that carries a prebuilt addon for this machine needs no compiler. */
function hasPrebuild() {
  const folder = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`);
  return existsSync(folder) && readdirSync(folder).some((file) => file.endsWith('.node'));
}

if (hasPrebuild() && process.env.npm_lifecycle_event === 'install') process.exit(0);
checkTools();
const nodeDir = findNodeDir();
const stamp = path.join(build, 'configuration');
const wanted = configuration(nodeDir);
const configured = existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted;
const gyp = require.resolve('node-gyp/bin/node-gyp.js');
const steps = configured ? ['build'] : ['configure', 'build'];
for (const step of steps) {
  const args = [gyp, step, '--release', `--nodedir=${nodeDir}`, '--loglevel=error'];
  if (step === 'build') args.push(`--jobs=${process.env.JOBS || availableParallelism()}`);
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) stop(`the native build failed at '${step}'; the compiler's message above says where.`);
  if (step === 'configure') {
    mkdirSync(build, { recursive: true });
    writeFileSync(stamp, wanted);
  }
}
