/** Runs one case in a process of its own and sends what it measures to the parent. */
import { Device } from '../../src/core/device.js';
import type { BenchCase, BenchOptions } from './case.js';
import { type Figure, makeFigure } from './figure.js';
import { LimitBook } from './limits.js';
import { machineSignature } from './machine.js';

export type Message =
  | { readonly kind: 'figure'; readonly figure: Figure }
  | { readonly kind: 'note'; readonly text: string }
  | { readonly kind: 'failure'; readonly text: string };

const send = (message: Message): void => {
  process.send?.(message);
};

/** @param name the case; @param url of its module */
async function main(name: string, url: string, options: BenchOptions): Promise<void> {
  const { default: benchCase } = (await import(url)) as { default: BenchCase };
  const device = new Device({ threads: options.threads });
  const setting = {
    case: name,
    threads: device.threads,
    tier: device.isa,
    machine: machineSignature(device.addon.deviceInfo()),
  };
  await benchCase.run({
    options,
    device,
    limits: new LimitBook(device, options.smoke),
    emit: (measured) => send({ kind: 'figure', figure: makeFigure(setting, measured) }),
    note: (text) => send({ kind: 'note', text }),
  });
}

const [, , name, url, options] = process.argv as [string, string, string, string, string];
try {
  await main(name, url, JSON.parse(options) as BenchOptions);
} catch (error) {
  const hint = (error as { hint?: string }).hint;
  send({ kind: 'failure', text: `${(error as Error).stack ?? error}${hint ? `\n${hint}` : ''}` });
  process.exitCode = 1;
}
process.disconnect?.();
