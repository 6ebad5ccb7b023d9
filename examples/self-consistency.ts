/**
 * Self-consistency (Wang et al. 2023) against greedy decoding: a small model adds, subtracts and multiplies step by step. Many
 * chains of thought are drawn for each question; the answer that most of them reach stands. All chains of a question share the
 * blocks of its prompt.
 *
 *   npx tsx examples/self-consistency.ts [MODEL.gguf] [CHAINS]
 */
import { countVotes, loadModel } from '../src/index.js';

const [path = '../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf', chains = '24'] = process.argv.slice(2);

const SHOTS = `Q: There are 15 trees. Workers plant 6 more. How many trees are there?
A: There are 15 trees. 6 are added. 15 + 6 = 21. The answer is 21.

Q: Tom had 32 sweets and ate 5. How many are left?
A: Tom had 32 sweets. 5 are gone. 32 - 5 = 27. The answer is 27.

Q: A box holds 4 pens. How many pens are in 3 boxes?
A: Each box holds 4 pens. There are 3 boxes. 4 * 3 = 12. The answer is 12.

`;
const ANSWER = /The answer is (-?\d+)/;

/** Sixteen questions, the numbers drawn once with a seed: none was picked by its outcome. */
const QUESTIONS: readonly (readonly [string, number])[] = [
  ['Anna has 4 apples and buys 3 more. How many apples has she?', 7],
  ['There are 9 birds. 3 fly away. How many birds are left?', 6],
  ['A shelf holds 9 books. How many books are on 9 shelves?', 81],
  ['A farmer has 9 cows and 8 goats. How many animals has he?', 17],
  ['Anna has 5 apples and buys 3 more. How many apples has she?', 8],
  ['There are 11 birds. 2 fly away. How many birds are left?', 9],
  ['A shelf holds 8 books. How many books are on 8 shelves?', 64],
  ['A farmer has 2 cows and 9 goats. How many animals has he?', 11],
  ['Anna has 6 apples and buys 5 more. How many apples has she?', 11],
  ['There are 10 birds. 7 fly away. How many birds are left?', 3],
  ['A shelf holds 2 books. How many books are on 2 shelves?', 4],
  ['A farmer has 2 cows and 2 goats. How many animals has he?', 4],
  ['Anna has 8 apples and buys 5 more. How many apples has she?', 13],
  ['There are 10 birds. 2 fly away. How many birds are left?', 8],
  ['A shelf holds 5 books. How many books are on 9 shelves?', 45],
  ['A farmer has 9 cows and 5 goats. How many animals has he?', 14],
];

const model = await loadModel(path, { contextLength: 512, cacheTokens: 8192 });
let greedyRight = 0;
let votedRight = 0;
for (const [question, right] of QUESTIONS) {
  const prompt = `${SHOTS}Q: ${question}\nA:`;
  const options = { maxTokens: 50, stop: '\n' };
  const [greedy, drawn] = await Promise.all([
    model.generate(prompt, options).result(),
    model.generateMany(prompt, { ...options, n: Number(chains), temperature: 0.6, seed: 1 }),
  ]);
  const single = ANSWER.exec(greedy.text)?.[1] ?? 'nothing';
  const { answer, votes, abstained } = countVotes(drawn, ANSWER);
  greedyRight += Number(single === String(right));
  votedRight += Number(answer === String(right));
  console.log(`\n${question}  (${right})`);
  console.log(`  greedy says ${single}${mark(single, right)}`);
  for (const { answer: said, weight } of votes.slice(0, 4))
    console.log(`  ${said.padStart(6)} ${'█'.repeat(weight)} ${weight}${mark(said, right)}`);
  if (abstained.length > 0)
    console.log(`  ${'none'.padStart(6)} ${'░'.repeat(abstained.length)} ${abstained.length}`);
}
console.log(
  `\nright of ${QUESTIONS.length}: greedy ${greedyRight}, the vote of ${chains} chains ${votedRight}`,
);
await model.dispose();

function mark(answer: string, right: number): string {
  return answer === String(right) ? ' ✓' : '';
}
