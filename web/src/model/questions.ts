/** The questions of a form as rows, and the input schema that they are: both ways, and nothing that is written in a
 * schema is lost. Pure. */
import { readable } from './amounts'

type Part = Record<string, unknown>
export const KINDS = ['text', 'number', 'whole', 'yesno', 'choice'] as const
export type Kind = (typeof KINDS)[number]
export type Question = {
  name: string
  /** Null: the schema says something that no row can; it stays as it is written. */
  kind: Kind | null
  isRequired: boolean
  about: string
  choices: string[]
  part: Part
}

const isMap = (value: unknown): value is Part => typeof value === 'object' && value !== null && !Array.isArray(value)
const BY_TYPE: Record<string, Kind> = { string: 'text', number: 'number', integer: 'whole', boolean: 'yesno' }
const BASES: Record<Kind, Part> = {
  text: { type: 'string' },
  number: { type: 'number' },
  whole: { type: 'integer' },
  yesno: { type: 'boolean' },
  choice: { type: 'string', enum: ['A', 'B'] },
}
/** What rows show of a schema; with anything else that says what is asked, they would tell half of it. */
const HALF = ['anyOf', 'oneOf', 'allOf', 'not', '$ref', 'if', 'patternProperties', 'dependentRequired']

/** Null where rows cannot show the schema. */
export function questionsOf(schema: unknown): Question[] | null {
  if (schema === undefined || schema === null) return []
  if (!isMap(schema) || (schema.type ?? 'object') !== 'object' || HALF.some((key) => key in schema)) return null
  const properties = schema.properties ?? {}
  if (!isMap(properties) || !Object.values(properties).every(isMap)) return null
  const required = Array.isArray(schema.required) ? schema.required : []
  if (required.some((name) => !(name in properties))) return null
  return Object.entries(properties as Record<string, Part>).map(([name, part]) => {
    const isChoice = Array.isArray(part.enum) && part.enum.every((one) => typeof one === 'string')
    const kind = 'enum' in part ? (isChoice ? 'choice' : null) : (BY_TYPE[String(part.type)] ?? null)
    return {
      name,
      kind: HALF.some((key) => key in part) ? null : kind,
      isRequired: required.includes(name),
      about: typeof part.description === 'string' ? part.description : '',
      choices: isChoice ? (part.enum as string[]) : [],
      part,
    }
  })
}

/** The schema with other questions; none at all is no schema. */
export function schemaOf(questions: Question[], before: unknown): Part | undefined {
  const { properties: _, required: __, ...rest } = isMap(before) ? before : ({} as Part)
  if (!questions.length && Object.keys(rest).every((key) => key === 'type')) return undefined
  const required = questions.filter((one) => one.isRequired).map(({ name }) => name)
  const properties = Object.fromEntries(questions.map(({ name, part }) => [name, part]))
  return { type: 'object', ...rest, properties, ...(required.length ? { required } : {}) }
}

/** A question of another kind begins anew but for its title and description. */
export const ofKind = (one: Question, kind: Kind): Question => {
  const kept = Object.entries(one.part).filter(([key]) => key === 'title' || key === 'description')
  return { ...one, kind, part: { ...BASES[kind], ...Object.fromEntries(kept) } }
}

/** What it is called, and so the name by which expressions know it; words that a name does not have become its title. */
export function withLabel(one: Question, label: string, others: string[]): Question {
  const name = nameOf(label, others)
  const { title: _, ...rest } = one.part
  return { ...one, name, part: label === readable(name) ? rest : { title: label, ...rest } }
}

/** What people read. */
export const labelOf = ({ name, part }: Pick<Question, 'name' | 'part'>) =>
  typeof part.title === 'string' && part.title ? part.title : readable(name)

export function withAbout(one: Question, about: string): Question {
  const { description: _, ...rest } = one.part
  return { ...one, about, part: about ? { ...rest, description: about } : rest }
}

/** Without a choice nobody could answer, so the last one stays; a default that is gone goes too. */
export function withChoices(one: Question, choices: string[]): Question {
  if (!choices.length) return one
  const { default: given, ...rest } = one.part
  const kept = choices.includes(given as string) ? { default: given } : {}
  return { ...one, choices, part: { ...rest, ...kept, enum: choices } }
}

/** The name by which expressions know what is asked: "Order number" is `orderNumber`. */
export function nameOf(label: string, others: string[]): string {
  const plain = label
    .normalize('NFD')
    .replace(/[\u0300-\u036f]/g, '')
    .replace(/ß/g, 'ss')
  const said = plain.split(/[^a-zA-Z0-9]+/).filter(Boolean)
  const joined = said.map((word, i) => (i ? word.charAt(0).toUpperCase() + word.slice(1) : lowered(word))).join('')
  const base = /^[a-zA-Z]/.test(joined) ? joined : `field${joined}`
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}${i}`
    if (!others.includes(name)) return name
  }
}

const lowered = (word: string) =>
  /^[A-Z0-9]+$/.test(word) ? word.toLowerCase() : word.charAt(0).toLowerCase() + word.slice(1)

/** A new question at the end. */
export function added(questions: Question[], label: string): Question[] {
  const name = nameOf(
    label,
    questions.map((one) => one.name),
  )
  const part = { ...BASES.text }
  return [...questions, { name, kind: 'text', isRequired: true, about: '', choices: [], part }]
}
