/** What a field of a JSON Schema takes, and how its value is written as text and read back. */
import { Exact, parse, stringify } from '../api/exact'

export type Schema = {
  type?: string | string[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  enum?: unknown[]
  const?: unknown
  default?: unknown
  title?: string
  description?: string
  properties?: Record<string, Schema>
  required?: string[]
  maxLength?: number
  'x-secret'?: boolean
  'x-raw'?: boolean
  'x-widget'?: string
  'x-group'?: string
}

const forms = (schema: Schema): Schema[] => schema.anyOf ?? schema.oneOf ?? [schema]

/** How a field is best written: its own hint, or that of the one thing beside null that it takes. */
export const widgetOf = (schema: Schema): string | undefined =>
  schema['x-widget'] ?? forms(schema).find((one) => one['x-widget'])?.['x-widget']

export const kindsOf = (schema: Schema): string[] => [
  ...new Set(
    forms(schema)
      .flatMap((one) => one.type ?? (one.const !== undefined ? typeof one.const : 'any'))
      .filter((kind) => kind !== 'null'),
  ),
]

/** The only values that a field takes, where these are all texts. */
export function choicesOf(schema: Schema): string[] | null {
  const lists = forms(schema).filter((one) => one.type !== 'null')
  const found = lists.map((one) => one.enum)
  if (!found.length || found.some((one) => !one)) return null
  return found.flatMap((one) => (one ?? []).map(String))
}

export const toText = (value: unknown): string => {
  if (value === undefined || value === null) return ''
  if (value instanceof Exact) return value.text
  return typeof value === 'string' ? value : stringify(value, 2)
}

const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/

/** An expression stays text; a number or JSON becomes what the schema takes; what cannot be read stays text, and the
 * server says what is wrong with it. */
export function fromText(text: string, schema: Schema): unknown {
  if (text === '') return undefined
  const kinds = kindsOf(schema)
  if (text.includes('{{') && !/^\s*[[{](?!\{)/.test(text)) return text
  const takesText = kinds.includes('string')
  const isJson =
    /^\s*[[{"]/.test(text) && (kinds.includes('object') || kinds.includes('array') || kinds.includes('any'))
  const isPlain = !takesText && (NUMBER.test(text) || text === 'true' || text === 'false')
  if (!isJson && !isPlain) return text
  try {
    return parse(text)
  } catch {
    return text
  }
}
