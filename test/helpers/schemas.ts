/** A schema whose value is an object of a word and a number. */
export const ROUTER_OR_EXPERT = {
  type: 'object',
  properties: {
    kind: { enum: ['router', 'expert'] },
    size: { type: 'integer', minimum: 1, maximum: 99 },
  },
  required: ['kind', 'size'],
  additionalProperties: false,
};
