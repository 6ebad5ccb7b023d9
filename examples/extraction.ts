/**
 * Facts of sentences as typed values: a small model fills a zod type, greedily, with beams, and with the grammar and n-grams of the
 * text guessing ahead, which gives the greedy text in fewer steps.
 *
 *   npx tsx examples/extraction.ts [MODEL.gguf]
 */
import { z } from 'zod';
import { drafters, type GenerateOptions, loadModel } from '../src/index.js';

const [path = '../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf'] = process.argv.slice(2);

const Person = z.object({
  name: z.string().max(20),
  age: z.number().int().min(0).max(120),
  city: z.string().max(20),
  job: z.enum(['farmer', 'doctor', 'teacher', 'pilot']),
});
type Person = z.infer<typeof Person>;

const EXAMPLES = `Text: Maria is 34, lives in Lisbon and flies planes.
JSON: {"name": "Maria", "age": 34, "city": "Lisbon", "job": "pilot"}

Text: In Osaka, a man of 61 called Kenji teaches children to read.
JSON: {"name": "Kenji", "age": 61, "city": "Osaka", "job": "teacher"}

`;
const people = (names: string): Person[] =>
  names.split('\n').map((line) => {
    const [name, age, city, job] = line.split(' ');
    return Person.parse({ name, age: Number(age), city, job });
  });
const RIGHT = people(`Anna 29 Oslo doctor
Pedro 45 Madrid farmer
Lucy 52 Dublin teacher
Omar 38 Cairo pilot
Ingrid 67 Bergen farmer
Paul 41 Boston doctor`);
const SENTENCES: readonly string[] = [
  'Anna, who is 29, treats sick people in Oslo.',
  'Pedro grows corn near Madrid; he is 45 years old.',
  'A woman of 52 named Lucy gives lessons at a school in Dublin.',
  'Omar is 38. He flies planes out of Cairo.',
  'Near Bergen, Ingrid keeps cows at the age of 67.',
  'Paul is a surgeon of 41 at a hospital in Boston.',
];
const WAYS: Readonly<Record<string, GenerateOptions<Person>>> = {
  greedy: {},
  'four beams': { beams: 4 },
  guessed: { speculation: drafters.firstOf([drafters.grammar(), drafters.ngram()]) },
};

const model = await loadModel(path, { contextLength: 512, cacheTokens: 8192 });
for (const [name, options] of Object.entries(WAYS)) {
  let fields = 0;
  let tokens = 0;
  let steps = 0;
  for (const [i, sentence] of SENTENCES.entries()) {
    const prompt = `${EXAMPLES}Text: ${sentence}\nJSON: `;
    const run: GenerateOptions<Person> = {
      maxTokens: 80,
      jsonSchema: Person,
      jsonLayout: 'line',
      ...options,
    };
    const { json, tokens: made, speculation } = await model.generate(prompt, run).result();
    const want = RIGHT[i] as Person;
    for (const key of Object.keys(want) as (keyof Person)[]) if (json?.[key] === want[key]) fields++;
    tokens += made.length;
    steps += speculation ? speculation.steps + 1 : made.length;
    if (name === 'greedy') console.log(`${sentence}\n  ${JSON.stringify(json)}`);
  }
  console.log(`${name}: ${fields} of ${4 * RIGHT.length} fields right, ${tokens} tokens in ${steps} steps`);
}
await model.dispose();
