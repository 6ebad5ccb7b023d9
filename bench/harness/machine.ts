import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import type { DeviceInfo } from '../../src/core/addon.js';

/**
 * One line that is equal on equal machines: processor, cores, instruction sets, memory, system, Node.
 * Cloud machines may share a model name: the tiers tell them apart.
 */
export function machineSignature(info: DeviceInfo): string {
  const model = cpus()[0]?.model.trim() || info.cpu;
  const gib = Math.round(totalmem() / 2 ** 30);
  const system = `${process.platform} ${process.arch}, Node ${process.versions.node}`;
  return `${model}, ${info.cores} cores, ${info.tiers.join(' ')}, ${gib} GiB, ${system}`;
}

/** Bytes of the last-level cache as the system tells them, or 32 MiB. */
export function lastLevelCache(): number {
  try {
    const text = readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8').trim();
    const [, digits, unit] = /^(\d+)([KM]?)$/.exec(text) ?? [];
    if (digits) return Number(digits) * (unit === 'M' ? 2 ** 20 : unit === 'K' ? 2 ** 10 : 1);
  } catch {}
  return 32 * 2 ** 20;
}

/** Bytes that weights of one bench rotate over: beyond the caches, within a quarter of the memory. */
export const rotationBytes = (): number => Math.min(1.5 * lastLevelCache() + 64 * 2 ** 20, totalmem() / 4);
