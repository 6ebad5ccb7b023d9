/** The text of a generation and its timings, for people. */
import type { GenerationResult } from '../../generate/generation.js';
import { harmless } from './text.js';

/** Writes text as it comes. What goes to a file or pipe stays as it is. */
export function writeText(text: string): void {
  process.stdout.write(process.stdout.isTTY ? harmless(text) : text);
}

/** 'loaded in 0.4 s · prompt 12 tokens, 250 tokens/s · 64 new tokens, 80 tokens/s · stopped: length' */
export function timingLine({ timings: t, finishReason }: GenerationResult, loadMs: number): string {
  const parts = [
    `loaded in ${(loadMs / 1000).toFixed(2)} s`,
    `prompt ${t.promptTokens} tokens, ${t.promptTokensPerSecond.toFixed(0)} tokens/s`,
    `${t.newTokens} new tokens, ${t.decodeTokensPerSecond.toFixed(1)} tokens/s`,
    `ended by ${{ stop: 'the model or a stop text', length: 'length', abort: 'an interrupt' }[finishReason]}`,
  ];
  return parts.join(' · ');
}
