/** A JSON schema as the fields of a form: texts, which become values again without a double in between. */
import { Exact, parse, stringify } from '../api/exact'
import { readable } from '../model/amounts'

export type Schema = {
  type?: string
  anyOf?: Schema[]
  enum?: unknown[]
  default?: unknown
  title?: string
  description?: string
  'x-secret'?: boolean
  properties?: Record<string, Schema>
  required?: string[]
}
export type Field = {
  name: string
  label: string
  about?: string
  kind: 'text' | 'secret' | 'choice' | 'switch' | 'number' | 'json'
  choices?: string[]
  /** What the choices stand for. */
  values?: unknown[]
  isRequired: boolean
}
export type Texts = Record<string, string>

export function fieldsOf(schema: Schema): Field[] {
  return Object.entries(schema.properties ?? {}).map(([name, part]) => {
    const inner = part.anyOf?.find((one) => one.type !== 'null') ?? part
    const choices = inner.enum?.map(String)
    return {
      name,
      label: part.title || inner.title || readable(name),
      about: part.description ?? inner.description,
      kind: kindOf(part, inner),
      choices,
      values: inner.enum,
      isRequired: schema.required?.includes(name) ?? false,
    }
  })
}

function kindOf(part: Schema, inner: Schema): Field['kind'] {
  if (part['x-secret'] || inner['x-secret']) return 'secret'
  if (inner.enum) return 'choice'
  if (inner.type === 'boolean') return 'switch'
  if (inner.type === 'integer' || inner.type === 'number') return 'number'
  return inner.type === 'string' ? 'text' : 'json'
}

export const textOf = (value: unknown): string =>
  value === null || value === undefined
    ? ''
    : typeof value === 'object' && !(value instanceof Exact)
      ? stringify(value)
      : String(value)

/** Empty optional fields are left out. What is no number or JSON goes as text: the server says what it wants. */
export function valuesOf(fields: Field[], texts: Texts): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  for (const { name, kind, isRequired, choices, values: meant } of fields) {
    const text = texts[name] ?? ''
    if (kind === 'switch') values[name] = text === 'true'
    else if (kind === 'choice' && text !== '') values[name] = meant?.[choices?.indexOf(text) ?? -1] ?? text
    else if (text !== '') values[name] = kind === 'number' || kind === 'json' ? read(text) : text
    else if (isRequired && kind !== 'secret') values[name] = ''
  }
  return values
}

export function read(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return text
  }
}
