/** Which steps a search finds, and in which order: by their own words, then by what people call them. Pure. */

export type Searched = { type: string; name: string; summary: string; tags: string[] }

const MEANS: [string, string[]][] = [
  ['email mail slack telegram discord teams message chat sms alert', ['notify']],
  ['transfer pay payment money remit', ['send-native', 'send-erc20-token', 'batch-transfer']],
  ['api rest fetch curl post download url', ['http-request']],
  ['ask person human confirm permission review', ['approve']],
  ['decide condition choose branch check', ['if', 'switch']],
  ['sleep pause later', ['delay', 'wait']],
  ['trade exchange', ['swap-uniswap-v2', 'swap-uniswap-v3']],
  ['loop repeat iterate', ['for-each', 'while']],
  ['ai gpt chatgpt claude', ['llm']],
  ['spreadsheet database save store', ['write-table', 'read-table']],
  ['blockchain onchain', ['read-contract', 'write-contract', 'get-balance']],
  ['javascript js script', ['code-transform']],
]

/** Types by what people call them. */
export const SYNONYMS: ReadonlyMap<string, readonly string[]> = new Map(
  MEANS.flatMap(([words, types]) => words.split(' ').map((word) => [word, types] as const)),
)

/** How well a step fits what is asked, word by word; -1 if it does not. A synonym counts less than a word of its own. */
export function rank(spec: Searched, asked: readonly string[]): number {
  const name = `${spec.name} ${spec.type}`.toLowerCase()
  const all = `${name} ${spec.summary} ${spec.tags.join(' ')}`.toLowerCase()
  const isMeant = (word: string) => SYNONYMS.get(word)?.includes(spec.type) ?? false
  if (!asked.every((word) => all.includes(word) || isMeant(word))) return -1
  const phrase = asked.join(' ')
  const title = spec.name.toLowerCase()
  const asWhole = phrase && (title === phrase ? 20 : title.startsWith(phrase) ? 10 : title.includes(phrase) ? 5 : 0)
  const begins = asked.some((word) => name.startsWith(word)) ? 2 : 0
  const meant = asked.filter((word) => isMeant(word) && !name.includes(word)).length / (asked.length + 1)
  return asked.filter((word) => name.includes(word)).length + begins + (asWhole || 0) + meant
}
