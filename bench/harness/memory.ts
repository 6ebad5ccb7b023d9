/** How much memory processes held, as the system counts it. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Forgets the most that this process has held so far, where the system can. */
export function resetPeakMemory(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {}
}

/** Most resident bytes of a process since its peak was reset; null where the system does not tell. */
export function peakMemoryOf(pid: number | 'self'): number | null {
  try {
    const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return kib ? Number(kib) * 1024 : null;
  } catch {
    return null;
  }
}

/** The same of this process; where the system counts no peak since the reset, the most since the process began. */
export const peakMemory = (): number => peakMemoryOf('self') ?? process.resourceUsage().maxRSS * 1024;
