/** The field that was written in last: what is pointed at goes to its caret. */
import type { EditorView } from '@codemirror/view'

type Written = { view: EditorView; isBare: boolean }
export const DRAGGED = 'application/x-dustrun-value'
let last: Written | null = null

export const writesIn = (written: Written) => {
  last = written
}

/** A path as a part of a field: in braces, unless the whole field is an expression or the place is within braces. */
export function reference(path: string, before: string, isBare: boolean): string {
  return isBare || before.lastIndexOf('{{') > before.lastIndexOf('}}') ? path : `{{${path}}}`
}

export function insertAt({ view, isBare }: Written, path: string, from: number, to = from) {
  const insert = reference(path, view.state.sliceDoc(0, from), isBare)
  view.dispatch({ changes: { from, to, insert }, selection: { anchor: from + insert.length }, userEvent: 'input' })
  view.focus()
}

/** Puts a value where the caret is; false if there is no field to put it in. */
export function insertValue(path: string): boolean {
  if (!last?.view.dom.isConnected) return false
  const { from, to } = last.view.state.selection.main
  insertAt(last, path, from, to)
  return true
}
