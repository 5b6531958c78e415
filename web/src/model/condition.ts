/** A condition as rows, as an expression and as typed words: each becomes the others, and what rows cannot show stays an
 * expression. Pure. */
import { Exact } from '../api/exact'
import { type Leaf, named } from './values'

/** `left` is a path such as `$nodes.get.result.price`, or `dec(…)` of one: a text of digits, read as a number. */
export type Row = { left: string; op: Op; right: string }
export type Group = { join: 'and' | 'or'; rows: (Row | Group)[] }
export type Op =
  | 'is'
  | 'isNot'
  | 'below'
  | 'atMost'
  | 'above'
  | 'atLeast'
  | 'contains'
  | 'lacks'
  | 'begins'
  | 'ends'
  | 'there'
  | 'missing'

export const OPS: readonly Op[] = [
  'is',
  'isNot',
  'below',
  'atMost',
  'above',
  'atLeast',
  'contains',
  'lacks',
  'begins',
  'ends',
  'there',
  'missing',
]
export const isGroup = (one: Row | Group): one is Group => 'join' in one
/** Those that compare nothing. */
export const isAlone = (op: Op) => op === 'there' || op === 'missing'

const SIGNS: [Op, string][] = [
  ['is', '=='],
  ['isNot', '!='],
  ['below', '<'],
  ['atMost', '<='],
  ['above', '>'],
  ['atLeast', '>='],
]
const SIGN = new Map(SIGNS)
const BY_SIGN = new Map(SIGNS.map(([op, sign]) => [sign, op]))
const METHODS: [Op, string][] = [
  ['contains', 'contains'],
  ['begins', 'startsWith'],
  ['ends', 'endsWith'],
]
const BY_METHOD = new Map(METHODS.map(([op, name]) => [name, op]))
const METHOD = new Map(METHODS)
const MIRRORED: Partial<Record<Op, Op>> = {
  is: 'is',
  isNot: 'isNot',
  below: 'above',
  atMost: 'atLeast',
  above: 'below',
  atLeast: 'atMost',
}

const PATH = String.raw`\$?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\d+\]|\["(?:[^"\\]|\\["\\])*"\])*`
const NUMBER = /^-?\d+(\.\d+)?$/
const LITERAL = /^(-?\d+(\.\d+)?|true|false|null|"(?:[^"\\\n]|\\(?:["\\nrtbf]|u[0-9a-fA-F]{4}))*")$/
const IS_PATH = new RegExp(`^${PATH}$`)
const LEFT = new RegExp(`^(?:dec\\(${PATH}\\)|${PATH})$`)
const WORDS = new Set(['true', 'false', 'null', 'in'])

export const isPath = (text: string) => IS_PATH.test(text) && !WORDS.has(text)
/** Whether it has two parts and more: a bare name is a step, which has no value itself. */
const isValue = (text: string) => LEFT.test(text) && !WORDS.has(text) && /[.[]/.test(text)
export const pathIn = (left: string) => left.replace(/^dec\((.*)\)$/, '$1')

/** What a row says on its right, for a field: a text without its quotes where it is read back as the same. */
export const shownRight = (right: string, isText: boolean): string => {
  const text = right.startsWith('"') ? parsed(right) : undefined
  return typeof text === 'string' && rightOf(text, isText) === right ? text : right
}

/** What is typed on the right of a row: a number, yes or no, a path, or a text. `isText`: the left side is one. */
export function rightOf(typed: string, isText: boolean): string {
  const text = typed.trim()
  if (LITERAL.test(text) && text.startsWith('"')) return text
  if (!isText && (NUMBER.test(text) || text === 'true' || text === 'false' || text === 'null')) return text
  if (isPath(text) && text.startsWith('$')) return text
  return JSON.stringify(text)
}

// ------------------------------------------------------------------------------------------------ rows to an expression

function write(one: Row | Group, inside: boolean): string {
  if (!isGroup(one)) return writeRow(one)
  const parts = one.rows.map((row) => write(row, one.rows.length > 1))
  const text = parts.join(one.join === 'and' ? ' && ' : ' || ')
  return inside && parts.length > 1 ? `(${text})` : text
}

function writeRow({ left, op, right }: Row): string {
  if (op === 'there') return `has(${left})`
  if (op === 'missing') return `!has(${left})`
  if (op === 'lacks') return `!${left}.contains(${right})`
  const method = METHOD.get(op)
  return method ? `${left}.${method}(${right})` : `${left} ${SIGN.get(op)} ${right}`
}

export const writeCondition = (group: Group): string => write(group, false)

/** Whether every row is whole, so that the expression can be. */
export const isWhole = (one: Row | Group): boolean =>
  isGroup(one)
    ? one.rows.length > 0 && one.rows.every(isWhole)
    : isValue(one.left) && (isAlone(one.op) || LITERAL.test(one.right) || isPath(one.right))

// ------------------------------------------------------------------------------------------------ an expression to rows

const TOKEN = new RegExp(
  String.raw`\s*(\|\||&&|==|!=|<=|>=|[<>!(),]|"(?:[^"\\\n]|\\.)*"|'[^'\\\n]*'|-?\d+(?:\.\d+)?(?![\w.])|${PATH})`,
  'y',
)

function tokensOf(text: string): string[] | null {
  const found: string[] = []
  const end = text.trimEnd().length
  for (let at = 0; at < end; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const token = TOKEN.exec(text)?.[1]
    if (token === undefined) return null
    found.push(token)
  }
  return found
}

class Unshown extends Error {}

/** The rows of an expression; null if it says what rows cannot. */
export function readCondition(text: string): Group | null {
  const tokens = tokensOf(text)
  if (!tokens?.length) return null
  let at = 0
  const take = () => tokens[at++]
  const skip = (token: string) => tokens[at] === token && at++ >= 0
  const need = (token: string) => {
    if (!skip(token)) throw new Unshown()
  }
  const joined = (join: Group['join'], sign: string, part: () => Row | Group): Row | Group => {
    const rows = [part()]
    while (skip(sign)) rows.push(part())
    // a group of the same kind within it says nothing more
    return rows.length === 1
      ? (rows[0] as Row | Group)
      : { join, rows: rows.flatMap((one) => (isGroup(one) && one.join === join ? one.rows : [one])) }
  }
  const any = (): Row | Group => joined('or', '||', every)
  const every = (): Row | Group => joined('and', '&&', one)
  const one = (): Row | Group => {
    if (skip('(')) {
      const inner = any()
      need(')')
      return inner
    }
    return row(skip('!'))
  }
  const literal = (token: string | undefined): string => {
    if (token?.startsWith("'")) return JSON.stringify(token.slice(1, -1))
    if (token !== undefined && LITERAL.test(token)) return token
    throw new Unshown()
  }
  const row = (isNot: boolean): Row => {
    const first = take()
    if (first === 'has' && skip('(')) {
      const left = take() ?? ''
      need(')')
      if (!isPath(left) || !isValue(left)) throw new Unshown()
      return { left, op: isNot ? 'missing' : 'there', right: '' }
    }
    const method = first?.match(/^(.+)\.(contains|startsWith|endsWith)$/)
    if (method && skip('(')) {
      const right = side(take())
      need(')')
      const op = BY_METHOD.get(method[2] as string) as Op
      if (!isValue(method[1] as string) || (isNot && op !== 'contains')) throw new Unshown()
      return { left: method[1] as string, op: isNot ? 'lacks' : op, right }
    }
    if (isNot) throw new Unshown()
    const left = number(first)
    const op = BY_SIGN.get(take() ?? '')
    const right = number(take())
    if (!op) throw new Unshown()
    if (isValue(left)) return { left, op, right: side(right) }
    const mirrored = MIRRORED[op]
    if (!isValue(right) || !mirrored) throw new Unshown()
    return { left: right, op: mirrored, right: literal(left) }
  }
  const number = (token: string | undefined): string => {
    if (token !== 'dec' || !skip('(')) return token ?? ''
    const inner = take() ?? ''
    need(')')
    return `dec(${inner})`
  }
  const side = (token: string | undefined): string =>
    token !== undefined && isPath(token) && isValue(token) ? token : literal(token)
  try {
    const found = any()
    if (at < tokens.length) return null
    return isGroup(found) ? found : { join: 'and', rows: [found] }
  } catch (problem) {
    if (problem instanceof Unshown) return null
    throw problem
  }
}

// ------------------------------------------------------------------------------------------------ typed words to rows

const SAID: [RegExp, Op][] = [
  [/^(?:is|are) (?:not there|missing)$|^(?:does not|doesn't) exist$/, 'missing'],
  [/^(?:is|are) there$|^exists$/, 'there'],
  [/^(?:is )?(?:at least|not (?:below|under|less than))$|^>=$|^≥$/, 'atLeast'],
  [/^(?:is )?(?:at most|not (?:above|over|more than|greater than))$|^<=$|^≤$/, 'atMost'],
  [/^(?:is )?(?:below|under|less than|lower than|smaller than)$|^<$/, 'below'],
  [/^(?:is )?(?:above|over|more than|greater than|higher than)$|^>$/, 'above'],
  [/^(?:does not|doesn't) contain$/, 'lacks'],
  [/^(?:contains|includes)$/, 'contains'],
  [/^(?:begins|starts) with$/, 'begins'],
  [/^ends with$/, 'ends'],
  [/^(?:is not|isn't|are not|does not equal)$|^!=$|^≠$/, 'isNot'],
  [/^(?:is|are|equals|is equal to)$|^==?$/, 'is'],
]
// the longest come first: "is at least" is no "is"
const SPOKEN =
  /^(.+?)\s*(?:(>=|<=|!=|==|[<>=≤≥≠])|\s((?:is |are )?(?:not )?(?:below|under|less than|lower than|smaller than|above|over|more than|greater than|higher than|at least|at most)|(?:is|are) (?:not there|missing|there|equal to)|(?:does not|doesn't) (?:exist|contain|equal)|exists|contains|includes|begins with|starts with|ends with|is not|isn't|are not|is|are|equals)(?![^\s]))\s*(.*)$/i

export type Taken = { name: string; leaf: Leaf }
/** `unknown`: the words that are not understood. `taken`: where each name was found. */
export type Read = { group: Group; taken: Taken[] } | { unknown: string }

/** What typed words mean, such as "price < 100 and currency is USD", with the names of values that earlier steps have. */
export function readWords(text: string, leaves: readonly Leaf[]): Read {
  const taken: Taken[] = []
  const ors = split(text.trim().replace(/[.?]$/, ''), 'or').map((part) => split(part, 'and'))
  const groups: (Row | Group)[] = []
  for (const ands of ors) {
    const rows: Row[] = []
    for (const part of ands) {
      const row = readPart(part, leaves, taken)
      if (!row) return { unknown: part }
      rows.push(row)
    }
    groups.push(rows.length === 1 ? (rows[0] as Row) : { join: 'and', rows })
  }
  const [only] = groups
  if (groups.length > 1) return { group: { join: 'or', rows: groups }, taken }
  return { group: only && isGroup(only) ? only : { join: 'and', rows: groups }, taken }
}

/** Parts between words such as "and", which quotes can hold too. */
function split(text: string, word: 'and' | 'or'): string[] {
  const parts: string[] = ['']
  const signs = word === 'and' ? /^(?:,? and |, | && )/i : /^(?:,? or | \|\| )/i
  for (let at = 0; at < text.length; ) {
    const quoted = text.slice(at).match(/^"[^"]*"?/)
    const sign = quoted ? null : text.slice(at).match(signs)
    if (sign) parts.push('')
    else parts.push(`${parts.pop()}${quoted ? quoted[0] : text[at]}`)
    at += (quoted ?? sign)?.[0]?.length ?? 1
  }
  return parts.map((one) => one.trim())
}

function readPart(part: string, leaves: readonly Leaf[], taken: Taken[]): Row | null {
  const found = part.match(SPOKEN)
  const name = (found?.[1] ?? '').trim().replace(/^the /i, '')
  const op = SAID.find(([words]) =>
    words.test((found?.[2] ?? found?.[3] ?? '').toLowerCase().replace(/\s+/g, ' ').replace(/^are /, 'is ')),
  )?.[1]
  const said = (found?.[4] ?? '').trim()
  if (!op || !name || (isAlone(op) ? said : !said)) return null
  const left = sideOf(name, leaves, taken)
  if (!left) return null
  if (isAlone(op)) return { left: left.path, op, right: '' }
  const number = said.replace(/^[$€](?=\d)|(?<=\d)[,_](?=\d{3})|%$/g, '')
  const isOrder = op === 'below' || op === 'atMost' || op === 'above' || op === 'atLeast'
  const isText = typeof left.value === 'string' && !left.isShape
  if (isOrder) {
    const other = NUMBER.test(number) ? number : sideOf(said, leaves, taken)?.path
    if (!other) return null
    return { left: isText && NUMBER.test(left.value as string) ? `dec(${left.path})` : left.path, op, right: other }
  }
  const words = /^(yes|no)$/i.test(said) && typeof left.value === 'boolean' ? String(/^yes$/i.test(said)) : said
  const asText = isText || op === 'contains' || op === 'lacks' || op === 'begins' || op === 'ends'
  return { left: left.path, op, right: rightOf(asText ? words : NUMBER.test(number) ? number : words, asText) }
}

function sideOf(
  name: string,
  leaves: readonly Leaf[],
  taken: Taken[],
): { path: string; value: unknown; isShape: boolean } | null {
  if (name.startsWith('$')) {
    const known = leaves.find((one) => one.path === name)
    return isPath(name) && isValue(name) ? { path: name, value: known?.value, isShape: known?.isShape ?? true } : null
  }
  const leaf = named(leaves, name)
  if (leaf) taken.push({ name, leaf })
  return leaf ?? null
}

// ------------------------------------------------------------------------------------------------ its answer

const decimal = (value: unknown): string | null => {
  if (value instanceof Exact) return NUMBER.test(value.text) ? value.text : null
  return typeof value === 'number' && NUMBER.test(String(value)) ? String(value) : null
}

/** Which of two decimals is greater: exact. */
export function compareDecimals(a: string, b: string): -1 | 0 | 1 {
  const places = Math.max(...[a, b].map((text) => text.split('.')[1]?.length ?? 0))
  const scaled = (text: string) => {
    const [whole = '0', part = ''] = text.split('.')
    return BigInt(whole + part.padEnd(places, '0'))
  }
  const [one, other] = [scaled(a), scaled(b)]
  return one < other ? -1 : one > other ? 1 : 0
}

type Walk = (path: string) => { found: boolean; value?: unknown }

/** Whether it holds with the values that are known; undefined where that cannot be told. */
export function holds(one: Row | Group, walk: Walk): boolean | undefined {
  if (!isGroup(one)) return holdsRow(one, walk)
  const answers = one.rows.map((row) => holds(row, walk))
  if (answers.includes(undefined)) return undefined
  return one.join === 'and' ? answers.every(Boolean) : answers.some(Boolean)
}

function holdsRow({ left, op, right }: Row, walk: Walk): boolean | undefined {
  const found = walk(pathIn(left))
  if (isAlone(op)) {
    const around = walk(left.replace(/(\.\w+|\[[^[]*\])$/, ''))
    const isKnown = found.found ? found.value !== null : typeof around.value === 'object' && around.value !== null
    return isKnown ? found.found === (op === 'there') : undefined
  }
  const other = isPath(right)
    ? walk(right)
    : { found: true, value: NUMBER.test(right) ? new Exact(right) : parsed(right) }
  if (!found.found || !other.found) return undefined
  const value = left.startsWith('dec(') && typeof found.value === 'string' ? new Exact(found.value) : found.value
  const [a, b] = [decimal(value), decimal(other.value)]
  if (SIGN.has(op)) {
    if (a !== null && b !== null) return byOrder(op, compareDecimals(a, b))
    const isOrder = op !== 'is' && op !== 'isNot'
    // a number is no text, and which of two unlike things is greater cannot be told
    const isScalar = [value, other.value].every(
      (one) => decimal(one) !== null || typeof one === 'string' || typeof one === 'boolean',
    )
    return isOrder || !isScalar ? undefined : (value === other.value) === (op === 'is')
  }
  if (typeof value !== 'string' || typeof other.value !== 'string') return undefined
  if (op === 'begins') return value.startsWith(other.value)
  if (op === 'ends') return value.endsWith(other.value)
  return value.includes(other.value) === (op === 'contains')
}

const byOrder = (op: Op, order: number): boolean =>
  ({
    is: order === 0,
    isNot: order !== 0,
    below: order < 0,
    atMost: order <= 0,
    above: order > 0,
    atLeast: order >= 0,
  })[op as 'is']

function parsed(literal: string): unknown {
  try {
    return JSON.parse(literal)
  } catch {
    return undefined
  }
}

// ------------------------------------------------------------------------------------------------ rows in words

const SPOKEN_AS: Record<Op, string> = {
  is: 'is',
  isNot: 'is not',
  below: 'is below',
  atMost: 'is at most',
  above: 'is above',
  atLeast: 'is at least',
  contains: 'contains',
  lacks: 'does not contain',
  begins: 'begins with',
  ends: 'ends with',
  there: 'exists',
  missing: 'is missing',
}

/** Rows as a person says them; `nameOf` gives the name of a path. */
export function sayCondition(one: Row | Group, nameOf: (path: string) => string, isInside = false): string {
  if (isGroup(one)) {
    const text = one.rows.map((row) => sayCondition(row, nameOf, true)).join(` ${one.join} `)
    return isInside && one.join === 'or' ? `(${text})` : text
  }
  const right = isPath(one.right) && one.right.startsWith('$') ? nameOf(one.right) : shownRight(one.right, true)
  return `${nameOf(pathIn(one.left))} ${SPOKEN_AS[one.op]}${isAlone(one.op) ? '' : ` ${right}`}`
}

/** The name by which `readWords` finds a value: its last part, else its path. */
export const nameIn = (leaves: readonly Leaf[]) => (path: string) => {
  const leaf = leaves.find((one) => one.path === path)
  const last = leaf?.keys.at(-1)
  return last && named(leaves, last)?.path === path ? last : path
}

/** The words that are read as these rows; empty if none are. */
export function wordsFor(group: Group, leaves: readonly Leaf[]): string {
  const text = sayCondition(group, nameIn(leaves))
  const read = readWords(text, leaves)
  return 'group' in read && JSON.stringify(read.group) === JSON.stringify(group) ? text : ''
}

export type Kind = 'number' | 'text' | 'yesNo' | 'list' | 'map' | 'unknown'
const NAMED: Record<string, Kind> = {
  string: 'text',
  integer: 'number',
  number: 'number',
  boolean: 'yesNo',
  array: 'list',
  object: 'map',
}

export function kindOf(leaf: Leaf | undefined): Kind {
  if (!leaf || leaf.value === null) return 'unknown'
  if (leaf.isShape && typeof leaf.value === 'string') return NAMED[leaf.value] ?? 'unknown'
  if (leaf.value instanceof Exact) return 'number'
  return Array.isArray(leaf.value) ? 'list' : (NAMED[typeof leaf.value] ?? 'unknown')
}

const FITS: Record<Kind, readonly Op[]> = {
  number: ['is', 'isNot', 'below', 'atMost', 'above', 'atLeast', 'there', 'missing'],
  text: OPS,
  yesNo: ['is', 'isNot', 'there', 'missing'],
  list: ['contains', 'lacks', 'there', 'missing'],
  map: ['there', 'missing'],
  unknown: OPS,
}

/** The operators that fit a value, and the one that is chosen. */
export const opsFor = (kind: Kind, chosen: Op): Op[] => OPS.filter((op) => op === chosen || FITS[kind].includes(op))

/** A text of digits is compared by size as the number that it writes. */
export function fitted(row: Row, leaf: Leaf | undefined): Row {
  const path = pathIn(row.left)
  const isOrder = row.op === 'below' || row.op === 'atMost' || row.op === 'above' || row.op === 'atLeast'
  const isDigits = typeof leaf?.value === 'string' && !leaf.isShape && NUMBER.test(leaf.value)
  return { ...row, left: isOrder && isDigits ? `dec(${path})` : path }
}
