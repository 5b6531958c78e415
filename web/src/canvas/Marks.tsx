/** Notes and groups on the canvas: moved and written where they are. */
import type { NodeProps } from '@xyflow/react'
import { memo } from 'react'
import { mark } from '../editor/document'
import { type Marks, withMark } from '../model/marks'
import { words } from '../words'
import type { Card } from './layout'
import { useShown, useSource } from './source'
import '../style/marks.css'

const said = words.editor
const WIDTH = 300
const HEIGHT = 58
const ROOM = 10
const TITLE = 20

export const NoteCard = memo(function NoteCard({ data: { id } }: NodeProps<Card>) {
  const note = useShown((s) => s.marks?.notes[id])
  const { isFixed } = useSource()
  if (!note) return null
  const set = (text?: string) =>
    mark((marks) => withMark(marks, 'notes', id, text === undefined ? undefined : { ...note, text }), `note.${id}`)
  return (
    <div className="note">
      <textarea
        className="nodrag nowheel"
        dir="auto"
        aria-label={said.note}
        placeholder={said.note}
        readOnly={isFixed}
        value={note.text}
        onChange={(event) => set(event.currentTarget.value)}
      />
      {!isFixed && <Remove label={said.removeNote} act={() => set()} />}
    </div>
  )
})

export const GroupBox = memo(function GroupBox({ data: { id } }: NodeProps<Card>) {
  const group = useShown((s) => s.marks?.groups[id])
  const { isFixed } = useSource()
  if (!group) return null
  const set = (title?: string) =>
    mark((marks) => withMark(marks, 'groups', id, title === undefined ? undefined : { ...group, title }), `group.${id}`)
  return (
    <div className="together">
      <input
        className="nodrag"
        dir="auto"
        aria-label={said.groupTitle}
        placeholder={said.groupTitle}
        readOnly={isFixed}
        value={group.title}
        onChange={(event) => set(event.currentTarget.value)}
      />
      {!isFixed && <Remove label={said.removeGroup} act={() => set()} />}
    </div>
  )
})

const Remove = ({ label, act }: { label: string; act: () => void }) => (
  <button type="button" className="nodrag" aria-label={label} onClick={act}>
    ×
  </button>
)

export const isStep = (card: Card) => card.type === 'card' || card.type === 'loop'

/** The steps, the boxes around groups of them behind, and the notes. */
export function withMarks(all: Card[], marks: Marks | undefined, isFixed: boolean): Card[] {
  const cards = all.filter(isStep)
  if (!marks) return cards
  const byId = new Map(cards.map((card) => [card.id, card]))
  const place = (card: Card): { x: number; y: number } => {
    const around = card.parentId ? byId.get(card.parentId) : undefined
    const from = around ? place(around) : { x: 0, y: 0 }
    return { x: from.x + card.position.x, y: from.y + card.position.y }
  }
  const groups = Object.entries(marks.groups).flatMap(([id, { nodes }]): Card[] => {
    const members = nodes.flatMap((one) => byId.get(one) ?? [])
    if (!members.length) return []
    const at = members.map(place)
    const left = Math.min(...at.map(({ x }) => x)) - ROOM
    const top = Math.min(...at.map(({ y }) => y)) - ROOM - TITLE
    const right = Math.max(...members.map((one, i) => (at[i]?.x ?? 0) + (one.width ?? WIDTH))) + ROOM
    const bottom = Math.max(...members.map((one, i) => (at[i]?.y ?? 0) + (one.height ?? HEIGHT))) + ROOM
    const size = { width: right - left, height: bottom - top }
    const still = { draggable: false, selectable: false, focusable: false, connectable: false }
    return [
      {
        id: `@group ${id}`,
        type: 'together',
        position: { x: left, y: top },
        ...size,
        ...still,
        zIndex: -1,
        data: { id },
      },
    ]
  })
  const notes = Object.entries(marks.notes).map(
    ([id, { x, y }]): Card => ({
      id: `@note ${id}`,
      type: 'note',
      position: { x, y },
      width: 230,
      height: 110,
      draggable: !isFixed,
      selectable: false,
      focusable: false,
      connectable: false,
      data: { id },
    }),
  )
  return [...groups, ...cards, ...notes]
}
