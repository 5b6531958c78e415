/** A field that takes text, a number, JSON or an expression, with problems at their character. */
import { autocompletion, closeBrackets, completionKeymap } from '@codemirror/autocomplete'
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands'
import { type Diagnostic, setDiagnostics } from '@codemirror/lint'
import { Annotation, EditorState } from '@codemirror/state'
import { Decoration, EditorView, keymap, MatchDecorator, placeholder, tooltips, ViewPlugin } from '@codemirror/view'
import { useEffect, useRef } from 'react'
import type { Problem } from '../api/client'
import { DRAGGED, insertAt, writesIn } from './caret'
import { completing } from './complete'
import type { Context } from './paths'
import { spanOf } from './spans'

const parts = new MatchDecorator({
  regexp: /(\{\{|\}\})|(\$[A-Za-z_]\w*)|('[^']*'|"[^"]*")|\b(\d+(?:\.\d+)?)\b/g,
  decoration: (m) => Decoration.mark({ class: m[1] ? 'x-brace' : m[2] ? 'x-root' : m[3] ? 'x-text' : 'x-num' }),
})
const colours = ViewPlugin.define(
  (view) => ({
    decorations: parts.createDeco(view),
    update(change) {
      this.decorations = parts.updateDeco(change, this.decorations)
    },
  }),
  { decorations: (plugin) => plugin.decorations },
)
/** Marks what did not come from the keyboard, such as an undo in the canvas. */
const fromOutside = Annotation.define<boolean>()
const nonce = document.querySelector<HTMLMetaElement>('meta[name=csp-nonce]')?.content ?? ''

type Props = {
  value: string
  onChange: (text: string) => void
  context: Context
  /** Of the setting, and its value: a problem may be inside of it. */
  name?: string
  held?: unknown
  label: string
  describedBy?: string
  problems: Problem[]
  isBare?: boolean
  hint?: string
  /** Takes a pasted text in another way; true if it did. */
  takePasted?: (text: string) => boolean
}

export function Expression({
  value,
  onChange,
  context,
  name,
  held,
  label,
  describedBy,
  problems,
  isBare = false,
  hint = '',
  takePasted,
}: Props) {
  const host = useRef<HTMLDivElement>(null)
  const view = useRef<EditorView | null>(null)
  const now = useRef({ context, onChange, takePasted })
  now.current = { context, onChange, takePasted }
  // biome-ignore lint/correctness/useExhaustiveDependencies: made once; what changes is read through `now`
  useEffect(() => {
    if (!host.current) return
    const attributes = { 'aria-label': label, ...(describedBy && { 'aria-describedby': describedBy }) }
    view.current = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: value,
        extensions: [
          EditorView.cspNonce.of(nonce),
          history(),
          closeBrackets(),
          colours,
          placeholder(hint),
          EditorView.lineWrapping,
          tooltips({ parent: document.body }),
          autocompletion({
            override: [completing(() => now.current.context, isBare)],
            icons: false,
            maxRenderedOptions: 50,
          }),
          keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
          EditorView.domEventHandlers({
            focus: (_, view) => writesIn({ view, isBare }),
            paste: (event, view) => {
              const isTaken = now.current.takePasted?.(event.clipboardData?.getData('text') ?? '') ?? false
              if (isTaken) {
                event.preventDefault()
                view.contentDOM.blur() // so that it shows what was made of it
              }
              return isTaken
            },
            drop: (event, view) => {
              const path = event.dataTransfer?.getData(DRAGGED)
              if (!path) return false
              event.preventDefault()
              const at = view.posAtCoords({ x: event.clientX, y: event.clientY }) ?? view.state.doc.length
              insertAt({ view, isBare }, path, at)
              return true
            },
          }),
          EditorView.contentAttributes.of(attributes),
          EditorView.updateListener.of((change) => {
            const isOurs = change.transactions.some((one) => one.annotation(fromOutside))
            if (change.docChanged && !isOurs) now.current.onChange(change.state.doc.toString())
          }),
        ],
      }),
    })
    return () => view.current?.destroy()
  }, [])
  useEffect(() => {
    const shown = view.current
    if (shown && shown.state.doc.toString() !== value && !shown.hasFocus)
      shown.dispatch({
        changes: { from: 0, to: shown.state.doc.length, insert: value },
        annotations: fromOutside.of(true),
      })
  }, [value])
  const told = JSON.stringify(problems)
  // biome-ignore lint/correctness/useExhaustiveDependencies: `told` stands for the problems; telling them anew would move a selection
  useEffect(() => {
    const shown = view.current
    if (shown)
      shown.dispatch(
        setDiagnostics(
          shown.state,
          problems.map((one) => diagnose(shown.state, one, name, held)),
        ),
      )
  }, [told, name, told === '[]' ? null : held])
  return <div ref={host} className={`xfield ${problems.length ? 'bad' : ''}`} />
}

function diagnose({ doc }: EditorState, one: Problem, name?: string, held?: unknown): Diagnostic {
  return { ...spanOf(doc.toString(), one, name, held), severity: 'error', message: one.message }
}
