import { readFileSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import type { Command } from 'commander';
import { addon, addonPath, type DeviceInfo, type OpenedDeviceInfo } from '../../core/addon.js';
import { openCuda } from '../../core/backend.js';
import { readEnv, VARIABLES } from '../../core/env.js';
import { type SwitchyardError, unknownOption } from '../../core/errors.js';
import { newCommand, printJson, printLines } from '../command.js';
import { EXIT_FAILURE } from '../failure.js';
import { type SelfTestResult, selfTest } from '../self-test.js';
import { bytesText } from '../terminal/numbers.js';
import { type Style, styleFor } from '../terminal/style.js';
import { table } from '../terminal/tables.js';

export function doctorCommand(): Command {
  return newCommand('doctor', 'checks this machine: CPU, instruction set, limits, self test').action(doctor);
}

interface Finding {
  readonly message: string;
  readonly hint?: string;
}

/** What is known of the machine; the addon's part is absent where it cannot be loaded. */
interface Report {
  readonly ok: boolean;
  readonly platform: string;
  readonly node: string;
  readonly memory: { readonly total: number; readonly free: number; readonly limit: number | null };
  readonly threads: number | null;
  readonly env: readonly { readonly name: string; readonly value: string; readonly about: string }[];
  readonly addon: { readonly path: string; readonly version: string } | null;
  readonly cpu: string | null;
  readonly cores: number;
  readonly tiers: readonly string[];
  readonly tier: string | null;
  readonly amx: Amx;
  /** The first GPU, or why none is used. */
  readonly gpu: OpenedDeviceInfo | { readonly absent: string };
  readonly selfTest: readonly SelfTestResult[];
  readonly problems: readonly Finding[];
}

type Amx = 'granted' | 'refused' | 'absent';

async function doctor(flags: { json?: true }): Promise<void> {
  const report = await examine();
  if (!report.ok) process.exitCode = EXIT_FAILURE;
  if (flags.json) return printJson(report);
  print(report, styleFor(process.stdout));
}

async function examine(): Promise<Report> {
  const problems: Finding[] = [];
  const attempt = <T>(look: () => T): T | null => {
    try {
      return look();
    } catch (error) {
      const { message, hint } = error as SwitchyardError;
      problems.push(hint === undefined ? { message } : { message, hint });
      return null;
    }
  };
  const settings = attempt(readEnv);
  const native = attempt(() => ({ path: addonPath(), version: addon().version, info: addon().deviceInfo() }));
  const info = native?.info;
  const tier = settings?.isa ?? info?.bestTier ?? null;
  if (info && settings?.isa && !info.tiers.includes(settings.isa))
    problems.push({
      message: `[SWITCHYARD_ISA] got ${settings.isa}, expected one this machine has: ${info.tiers.join(', ')}`,
    });
  // The self test must see the machine, not a variable that is wrong.
  const tests = info && settings ? await selfTest(info.tiers) : [];
  for (const { tier, test, ok, message } of tests) {
    if (ok) continue;
    const got = message === undefined ? 'other values than the known ones' : `the error ${message}`;
    problems.push({ message: `[self test] got from ${test} on ${tier} ${got}, expected the known values` });
  }
  const { env, unknown } = variablesSet();
  problems.push(...unknown);
  return {
    ok: problems.length === 0,
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
    memory: memory(),
    threads: settings?.threads ?? null,
    env,
    addon: native ? { path: native.path, version: native.version } : null,
    cpu: info?.cpu ?? null,
    cores: info?.cores ?? availableParallelism(),
    tiers: info?.tiers ?? [],
    tier,
    amx: amxState(info),
    gpu: gpuState(),
    selfTest: tests,
    problems,
  };
}

function memory(): Report['memory'] {
  const total = totalmem();
  // A container's limit; Node gives a number beyond all memory (or 0) where there is none.
  const limit = process.constrainedMemory();
  return { total, free: freemem(), limit: limit > 0 && limit < total ? limit : null };
}

function gpuState(): Report['gpu'] {
  try {
    return addon().openedDevice(openCuda(0));
  } catch (error) {
    return { absent: (error as Error).message };
  }
}

/** Whether the system lets this process use the CPU's matrix unit. */
function amxState(info: DeviceInfo | undefined): Amx {
  if (info?.amx) return 'granted';
  try {
    return /\bamx_tile\b/.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'refused' : 'absent';
  } catch {
    return 'absent'; // not Linux: the unit is used on Linux only
  }
}

/** Variables of the tests, which the runtime does not read. */
const TEST_VARIABLES = ['SWITCHYARD_FIXTURES', 'SWITCHYARD_MODELS', 'SWITCHYARD_PYTHON'];

/** The variables that are set, and those that look like ours but are not. */
function variablesSet(): { env: Report['env']; unknown: Finding[] } {
  const table = Object.values(VARIABLES);
  const names = table.map(({ name }) => name);
  const env = table.flatMap((variable) => {
    const { name, about } = variable;
    const value = 'secret' in variable ? process.env[name] && '(set)' : process.env[name];
    return value ? [{ name, value, about }] : [];
  });
  const unknown = Object.keys(process.env)
    .filter((name) => /^SWITCHYARD_/.test(name) && !names.includes(name) && !TEST_VARIABLES.includes(name))
    .map((name) => {
      const { message, hint } = unknownOption('env', name, names);
      return hint === undefined ? { message } : { message, hint };
    });
  return { env, unknown };
}

function gpuText(gpu: Report['gpu']): string {
  if ('absent' in gpu) return `none used: ${gpu.absent}`;
  return `${gpu.name}, compute capability ${(gpu.capability / 10).toFixed(1)}, ${bytesText(gpu.free)} free of ${bytesText(gpu.memory)}`;
}

function print(r: Report, style: Style): void {
  const tests = r.selfTest.length;
  const passed = r.selfTest.filter(({ ok }) => ok).length;
  const mark = (tier: string): string => (tier === r.tier ? style.bold(`${tier} (used)`) : tier);
  printLines(
    table(
      [],
      [
        ['system', `${r.platform}, Node ${r.node}`],
        ['CPU', `${r.cpu ?? 'unknown'}, ${r.cores} cores`],
        ['threads', r.threads ?? 'unknown'],
        ['instruction sets', r.tiers.map(mark).join(', ') || 'unknown'],
        ['AMX', AMX_TEXT[r.amx]],
        ['GPU', gpuText(r.gpu)],
        [
          'memory',
          `${bytesText(r.memory.free)} free of ${bytesText(r.memory.total)}${r.memory.limit ? `, limited to ${bytesText(r.memory.limit)}` : ''}`,
        ],
        ['addon', r.addon ? `${r.addon.version}, ${r.addon.path}` : 'not loaded'],
        ['variables', r.env.map(({ name, value }) => `${name}=${value}`).join(', ') || 'none set'],
        ['self test', tests === 0 ? 'not run' : `${passed} of ${tests} passed`],
      ],
    ),
    '',
  );
  for (const { message, hint } of r.problems) {
    printLines(`${style.bad('problem:')} ${message}`);
    if (hint !== undefined) printLines(`${style.accent('hint:')} ${hint}`);
  }
  printLines(r.ok ? style.good('verdict: all is well') : style.bad(`verdict: ${r.problems.length} problems`));
}

const AMX_TEXT: Readonly<Record<Amx, string>> = {
  granted: 'granted by the system',
  refused: 'the CPU has it, the system refuses it',
  absent: 'not there',
};
