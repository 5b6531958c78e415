/** What keys do in the editor. Single letters are off in fields and dialogs. */
import { useEffect } from 'react'
import type { Mode } from '../api/client'
import { type FlowNode, triggersOf } from '../model/graph'
import { withGroup, withNote } from '../model/marks'
import { useRunStore } from '../run/store'
import { edit, mark, move, redo, select, undo, useDocument } from './document'
import { paste, removeNodes } from './edits'

export type KeyActions = {
  run: () => void
  mode: (mode: Mode) => void
  add: (after: string | null) => void
  connect: (from: string) => void
  rename: () => void
  keys: () => void
  paste: (text: string) => void
  copied: () => string | null
}

const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement &&
  (target.isContentEditable ||
    ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName) ||
    target.closest('[role=dialog]') !== null)

/** Walks along the ways: up to what comes before, down to what comes after, sideways among those beside it. */
function walk(key: string) {
  const { flow, selected } = useDocument.getState()
  const at = selected[0]
  if (!at) return select(Object.keys(flow.nodes).slice(0, 1))
  const after = (id: string) => [...(flow.nodes[id]?.children ?? []), ...(flow.nodes[id]?.loopBody ?? [])]
  const parent = Object.keys(flow.nodes).find((id) => after(id).includes(at))
  const beside = parent ? after(parent) : triggersOf(flow)
  const to: Record<string, string | undefined> = {
    ArrowUp: parent,
    ArrowDown: after(at)[0],
    ArrowLeft: beside[beside.indexOf(at) - 1],
    ArrowRight: beside[beside.indexOf(at) + 1],
  }
  const next = to[key]
  if (next) select([next])
}

const tidy = () => {
  if (Object.keys(useDocument.getState().positions).length) move({})
}
export const addNote = () => mark(withNote)
export const groupChosen = () => mark((marks) => withGroup(marks, useDocument.getState().selected))

export function pasteSteps(nodes: Record<string, FlowNode>) {
  let ids: string[] = []
  edit((flow) => {
    const done = paste(flow, nodes)
    ids = done.ids
    return done.flow
  })
  select(ids)
}

function onKey(event: KeyboardEvent, actions: KeyActions): boolean {
  const { selected } = useDocument.getState()
  const { cursor, events, scrub, togglePlay } = useRunStore.getState()
  const key = event.key
  if (event.ctrlKey || event.metaKey) {
    if (key === 'Enter') actions.run()
    else if (isTyping(event.target)) return false
    else if (key === 'z' && !event.shiftKey) undo()
    else if (key === 'y' || (key.toLowerCase() === 'z' && event.shiftKey)) redo()
    else return false
    return true
  }
  if (isTyping(event.target)) {
    const field = event.target as HTMLElement
    if (key !== 'Escape' || !field.closest('.inspector')) return false
    field.blur() // so that letters are keys again
    return true
  }
  if (event.altKey) {
    if (!key.startsWith('Arrow')) return false
    walk(key)
    return true
  }
  const [one] = selected
  const does: Record<string, (() => void) | undefined> = {
    '1': () => actions.mode('simulate'),
    '2': () => actions.mode('dust'),
    '3': () => actions.mode('live'),
    '[': () => scrub(Math.max(1, (cursor ?? events.length) - 1)),
    ']': () => scrub((cursor ?? events.length) + 1),
    ' ': event.target instanceof HTMLButtonElement ? undefined : togglePlay,
    a: () => actions.add(one ?? null),
    c: one ? () => actions.connect(one) : undefined,
    L: tidy,
    n: addNote,
    g: selected.length ? groupChosen : undefined,
    F2: one ? actions.rename : undefined,
    Delete: selected.length ? () => edit((flow) => removeNodes(flow, selected)) : undefined,
    Escape: selected.length ? () => select([]) : undefined,
    '?': actions.keys,
  }
  const act = does[key]
  act?.()
  return act !== undefined
}

export function useEditorKeys(actions: KeyActions) {
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (!event.defaultPrevented && onKey(event, actions)) event.preventDefault()
    }
    const take = (event: ClipboardEvent) => {
      if (isTyping(event.target)) return
      event.preventDefault()
      actions.paste(event.clipboardData?.getData('text') ?? '')
    }
    const give = (event: ClipboardEvent) => {
      if (isTyping(event.target) || getSelection()?.toString()) return
      const text = actions.copied()
      if (text === null) return
      event.preventDefault()
      event.clipboardData?.setData('text', text)
    }
    window.addEventListener('keydown', listen)
    window.addEventListener('copy', give)
    window.addEventListener('paste', take)
    return () => {
      window.removeEventListener('keydown', listen)
      window.removeEventListener('copy', give)
      window.removeEventListener('paste', take)
    }
  }, [actions])
}
