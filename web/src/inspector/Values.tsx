/** What the steps before have given, beside the settings: a click or a drag puts a value where somebody writes. */
import { ActionIcon, TextInput } from '@mantine/core'
import { IconX } from '@tabler/icons-react'
import { memo, useMemo, useState } from 'react'
import { useShallow } from 'zustand/react/shallow'
import { useCatalog } from '../api/queries'
import { select, useDocument } from '../editor/document'
import { readable } from '../model/amounts'
import { kindOf } from '../model/condition'
import type { Leaf } from '../model/values'
import { Time } from '../parts/Time'
import { condition } from '../words.condition'
import { values as said } from '../words.values'
import { DRAGGED, insertValue } from './caret'
import { brief } from './paths'
import { canBeTested } from './TestStep'
import { openAt } from './tab'
import type { Tested } from './trial'

const SHOWN = 40
/** So many steps are listed, nearest first; all are searched. */
const NEAREST = 30
const ENVELOPE = /^body(\.|(?=\[))/
type Source = { step?: string; name: string; canBeTested: boolean }
type Props = {
  leaves: Leaf[]
  /** Those before, nearest first. */
  steps: string[]
  tested: Record<string, Tested>
  isTried: boolean
  ranAt?: string
  close: () => void
}

export const Values = memo(function Values({ leaves, steps, tested, isTried, ranAt, close }: Props) {
  const [text, setText] = useState('')
  const [isLost, setIsLost] = useState(false)
  const groups = useMemo(() => grouped(leaves, text), [leaves, text])
  const sources = useSources(steps)
  const listed = text ? sources.filter(({ step }) => groups.has(step)) : sources
  const shown = listed.filter(({ step }, i) => i < NEAREST || step === undefined)
  const put = (path: string) => setIsLost(!insertValue(path))
  const originOf = (step: string | undefined, isShape: boolean) => {
    if (isShape) return said.from.shape
    if (step === undefined ? isTried : tested[step]) return step === undefined ? said.from.trial : said.from.test
    return said.from.run
  }
  return (
    <section className="values" aria-label={said.title}>
      <header>
        <strong>{said.title}</strong>
        <ActionIcon variant="subtle" color="gray" aria-label={said.close} onClick={close}>
          <IconX size={15} />
        </ActionIcon>
      </header>
      <p className="quiet" role="status">
        {isLost ? said.noField : said.about}
      </p>
      <TextInput
        size="xs"
        type="search"
        aria-label={said.search}
        placeholder={said.search}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
      {!sources.length && <p className="quiet">{said.none}</p>}
      {shown.map(({ step, name, canBeTested }) => {
        const found = groups.get(step) ?? []
        const isShape = found[0]?.isShape ?? !leaves.some((one) => one.step === step)
        const at = step === undefined ? ranAt : (tested[step]?.at ?? ranAt)
        return (
          <div key={step ?? ''} role="group" aria-label={name}>
            <div className="head">
              <strong dir="auto">{name}</strong>
              <small className="quiet">
                {originOf(step, isShape)} {!isShape && at && <Time at={at} />}
              </small>
            </div>
            {isShape && step !== undefined && canBeTested && (
              <button type="button" className="link" onClick={() => openAt('test', () => select([step]))}>
                {said.test(name)}
              </button>
            )}
            <ul>
              {found.slice(0, SHOWN).map((leaf) => (
                <li key={leaf.path}>
                  <button
                    type="button"
                    draggable
                    onDragStart={(event) => {
                      event.dataTransfer.setData(DRAGGED, leaf.path)
                      event.dataTransfer.setData('text/plain', `{{${leaf.path}}}`)
                    }}
                    onClick={() => put(leaf.path)}
                    title={leaf.path}
                  >
                    <span dir="auto">{shownName(leaf)}</span>
                    <code>{leaf.isShape ? condition.kinds[kindOf(leaf)] : brief(leaf.value, 40)}</code>
                    <i aria-hidden>+ {said.insert}</i>
                  </button>
                </li>
              ))}
            </ul>
            {found.length > SHOWN && <small className="quiet">{said.more(found.length - SHOWN)}</small>}
          </div>
        )
      })}
      {listed.length > shown.length && <p className="quiet">{said.moreSteps(listed.length - shown.length)}</p>}
    </section>
  )
})

/** The steps, and what starts the run; the same list as long as none of them is called otherwise. */
function useSources(steps: string[]): Source[] {
  const titles = useDocument(useShallow((s) => steps.map((step) => s.flow.nodes[step]?.titleOverride)))
  const types = useDocument(useShallow((s) => steps.map((step) => s.flow.nodes[step]?.type ?? '')))
  const catalog = useCatalog().data
  return useMemo(() => {
    const sources = steps.map((step, i): Source => {
      return { step, name: titles[i] || readable(step), canBeTested: canBeTested(catalog?.[types[i] ?? '']) }
    })
    return [...sources, { name: said.start, canBeTested: false }]
  }, [steps, titles, types, catalog])
}

const shownName = ({ keys }: Leaf) =>
  keys
    .reduce((name, key) => (/^\d+$/.test(key) ? `${name}[${key}]` : name ? `${name}.${key}` : key), '')
    .replace(ENVELOPE, '')

/** Objects are left out: what is in them is listed. */
function grouped(leaves: Leaf[], text: string): Map<string | undefined, Leaf[]> {
  const asked = text.trim().toLowerCase()
  const groups = new Map<string | undefined, Leaf[]>()
  for (const leaf of leaves) {
    if (kindOf(leaf) === 'map') continue
    if (asked && !leaf.keys.join('.').toLowerCase().includes(asked)) continue
    const list = groups.get(leaf.step)
    if (list) list.push(leaf)
    else groups.set(leaf.step, [leaf])
  }
  return groups
}
