/**
 * Draws the pictures of docs/moe.md into docs/images/: `npm run docs:gating`. The same tokens meet every policy, and the same
 * code gives the same bytes: seeds are fixed, texts are measured without fonts, and the scalar kernels compute.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import { moe } from '../src/index.js';
import {
  CAPACITIES,
  EXPERTS,
  type Family,
  POLICIES,
  type Scene,
  SHOWN,
  scenesOf,
  VARIANTS,
} from './gating-scene.js';

/** Okabe and Ito's colours, which colour-blind readers tell apart; the titles say the same in words. */
const COLOURS: Record<Family, string> = {
  'the token chooses': '#0072B2',
  'chosen so that the load is even': '#E69F00',
  'no router': '#888888',
  'all experts, mixed': '#CC79A7',
};
const [INK, FAINT] = ['#222222', '#666666'];
const CELL = 16; // of the weights, in pixels
const MOST = 144; // top of the load axis: 9 / 16 of the tokens

const CONFIG = {
  background: 'white',
  font: 'Helvetica, Arial, sans-serif',
  aria: false, // a label for each of thousands of rectangles would be most of the file
  padding: 8,
  view: { stroke: null },
  axis: {
    labelColor: FAINT,
    titleColor: FAINT,
    titleFontWeight: 'normal',
    labelFontSize: 11,
    titleFontSize: 11,
    gridColor: '#e6e6e6',
    domain: false,
    ticks: false,
  },
  title: {
    color: INK,
    subtitleColor: FAINT,
    fontSize: 13,
    subtitleFontSize: 11,
    anchor: 'start',
    offset: 8,
    subtitlePadding: 3,
  },
  legend: { labelColor: FAINT, labelFontSize: 11, titleColor: FAINT, titleFontWeight: 'normal' },
} as const;

const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

/** What a reader should take from the bars, in numbers. */
function figures({ load, dropped, unserved }: Scene): string {
  const { cv, maxViolation } = moe.statisticsOfLoad(load);
  const missing = dropped
    ? `${percent(dropped)} of choices dropped`
    : unserved > 0
      ? `${percent(unserved)} of tokens get none`
      : `fullest ${(1 + maxViolation).toFixed(1)}× mean`;
  return `CV ${cv.toFixed(2)}, ${missing}`;
}

type Part = Record<string, unknown>;

/** Bars of the load, with a line where an even load would be. */
function loadChart(
  scene: Scene,
  { width, height, title }: { width: number; height: number; title: Part },
): Part {
  const even = scene.load.reduce((a, b) => a + b, 0) / EXPERTS;
  const domain = { domain: [0, MOST] };
  const large = height > 100;
  const unit = scene.family === 'all experts, mixed' ? 'summed weight' : 'tokens';
  return {
    title,
    width,
    height,
    layer: [
      {
        data: {
          values: scene.load.map((n, e) => ({ expert: e, n: Math.round(10 * n) / 10, family: scene.family })),
        },
        mark: { type: 'bar', width: { band: 0.78 } },
        encoding: {
          x: { field: 'expert', type: 'ordinal', axis: { title: large ? 'expert' : null, labelAngle: 0 } },
          y: {
            field: 'n',
            type: 'quantitative',
            scale: domain,
            axis: { title: large ? unit : null, values: [0, 64, 128] },
          },
          color: {
            field: 'family',
            type: 'nominal',
            scale: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
            legend: null,
          },
        },
      },
      {
        data: { values: [{ even: Math.round(10 * even) / 10 }] },
        mark: { type: 'rule', color: INK, strokeDash: [4, 3], strokeWidth: 1.2 },
        encoding: { y: { field: 'even', type: 'quantitative', scale: domain } },
      },
    ],
  };
}

/** Weights of the shown tokens, an expert a row. */
function weightChart(scene: Scene, title: Part): Part {
  const values = scene.weights.flatMap((row, t) =>
    row.map((weight, expert) => ({ token: SHOWN.from + t + 1, expert, weight })),
  );
  return {
    title,
    width: SHOWN.count * CELL,
    height: EXPERTS * CELL,
    data: { values },
    mark: { type: 'rect', stroke: 'white', strokeWidth: 1 },
    encoding: {
      x: {
        field: 'token',
        type: 'ordinal',
        axis: {
          title: 'token of the first sequence',
          labelAngle: 0,
          values: [SHOWN.from + 1, SHOWN.from + 8, SHOWN.from + 16, SHOWN.from + 24],
        },
      },
      y: { field: 'expert', type: 'ordinal', axis: { title: 'expert' } },
      color: {
        field: 'weight',
        type: 'quantitative',
        // from a grey that is seen on white: 0 is a cell too
        scale: { domain: [0, 0.5, 1], range: ['#f0f0f0', '#56a0d3', '#08306b'], clamp: true },
        legend: { title: 'weight', values: [0, 0.5, 1], gradientLength: EXPERTS * CELL - 24 },
      },
    },
  };
}

/** All loads in one picture. */
function overview(scenes: readonly Scene[]): Part {
  const cells = scenes.map((scene) =>
    loadChart(scene, {
      width: 164,
      height: 92,
      title: { text: scene.title, subtitle: figures(scene) },
    }),
  );
  return {
    title: {
      text: 'The same 256 tokens under every gating policy',
      subtitle: [
        'The router has favourites. Even: orange, random, a learned bias, next-best. Dashed: the mean.',
        'Bars: tokens per expert as in training; of the pink ones, summed weights.',
        'Blue: the token chooses. Orange: chosen to be even. Grey: no router. Pink: all experts.',
      ],
      fontSize: 14,
      subtitleFontSize: 12,
      offset: 16,
    },
    columns: 4,
    bounds: 'flush', // by the plots alone: the width of a text is only guessed
    spacing: { row: 74, column: 44 },
    concat: cells,
  };
}

/** Load and weights side by side, a row for each scene. */
const portraits = (scenes: readonly Scene[]): Part => ({
  bounds: 'flush',
  columns: 2,
  spacing: { row: 100, column: 110 },
  concat: scenes.flatMap((scene) => [
    loadChart(scene, {
      width: 190,
      height: EXPERTS * CELL,
      title: { text: `${scene.title}`, subtitle: figures(scene) },
    }),
    weightChart(scene, { text: `weights of ${SHOWN.count} tokens`, subtitle: weightsInWords(scene) }),
  ]),
});

function weightsInWords({ weights, family }: Scene): string {
  if (family === 'all experts, mixed') return 'each has all experts';
  const counts = weights.map((row) => row.filter((w) => w > 0).length);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const experts = most === 1 ? 'expert' : 'experts';
  return least === most ? `each has ${most} ${experts}` : `each has ${least} to ${most} ${experts}`;
}

/** [file, text] of every picture. */
export async function pictures(): Promise<[string, string][]> {
  process.env.SWITCHYARD_ISA = 'scalar'; // the same bits on every machine; read when the device is first used
  const policies = await scenesOf(POLICIES);
  const variants = await scenesOf(VARIANTS);
  const capacities = await scenesOf(CAPACITIES);
  const specs: [string, Part][] = [
    ['gating-load.svg', overview([...policies, ...variants])],
    ...policies.map((scene): [string, Part] => [`gating-${scene.name}.svg`, portraits([scene])]),
    ['capacity.svg', portraits(capacities)],
  ];
  return Promise.all(specs.map(async ([file, spec]): Promise<[string, string]> => [file, await svgOf(spec)]));
}

async function svgOf(spec: Part): Promise<string> {
  const { spec: vega } = compile({ ...spec, config: CONFIG } as unknown as TopLevelSpec);
  const view = new View(parse(vega), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = fileURLToPath(new URL('../docs/images', import.meta.url));
  mkdirSync(folder, { recursive: true });
  for (const [file, svg] of await pictures()) writeFileSync(`${folder}/${file}`, svg);
}
