/** What people put beside the steps: notes, and groups with a title. Kept in `uiMetadata` with the positions. */
import type { Json } from '../api/client'

export type Note = { x: number; y: number; text: string }
export type Group = { title: string; nodes: string[] }
export type Marks = { notes: Record<string, Note>; groups: Record<string, Group> }

export const NO_MARKS: Marks = { notes: {}, groups: {} }
const BESIDE = -260
const APART = 130

const mapOf = (value: unknown): [string, Json][] =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.entries(value).filter((pair): pair is [string, Json] => typeof pair[1] === 'object' && pair[1] !== null)
    : []

/** What is no note or group there is left out: others may keep things of their own in it. */
export function marksIn(ui: Json | null | undefined): Marks {
  const notes = mapOf(ui?.notes).map(([id, { x, y, text }]) => [id, { x: Number(x) || 0, y: Number(y) || 0, text }])
  const groups = mapOf(ui?.groups).map(([id, { title, nodes }]) => [id, { title, nodes }])
  return {
    notes: Object.fromEntries(notes.filter(([, one]) => typeof (one as Note).text === 'string')),
    groups: Object.fromEntries(groups.filter(([, one]) => Array.isArray((one as Group).nodes))),
  }
}

const fresh = (taken: object, stem: string) => {
  let n = 1
  while (stem + n in taken) n++
  return stem + n
}

export function withNote({ notes, groups }: Marks): Marks {
  const y = Object.keys(notes).length * APART
  return { groups, notes: { ...notes, [fresh(notes, 'n')]: { x: BESIDE, y, text: '' } } }
}

export const withGroup = ({ notes, groups }: Marks, nodes: string[]): Marks =>
  nodes.length ? { notes, groups: { ...groups, [fresh(groups, 'g')]: { title: '', nodes } } } : { notes, groups }

/** With a note or group changed; removed if it is undefined. */
export function withMark<K extends keyof Marks>(marks: Marks, kind: K, id: string, mark?: Marks[K][string]): Marks {
  const { [id]: _, ...others } = marks[kind]
  return { ...marks, [kind]: mark ? { ...others, [id]: mark } : others }
}
