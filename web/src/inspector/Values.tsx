/** What the steps before have given, beside the settings: a click or a drag puts a value where somebody writes. */
import { ActionIcon, TextInput } from '@mantine/core'
import { IconX } from '@tabler/icons-react'
import { useMemo, useState } from 'react'
import { select } from '../editor/document'
import { kindOf } from '../model/condition'
import type { Leaf } from '../model/values'
import { Time } from '../parts/Time'
import { condition } from '../words.condition'
import { values as said } from '../words.values'
import { DRAGGED, insertValue } from './caret'
import { brief } from './paths'
import { openAt } from './tab'
import type { Tested } from './trial'

const SHOWN = 40
const ENVELOPE = /^body(\.|(?=\[))/
export type Source = { step?: string; name: string; canBeTested: boolean }
type Props = {
  leaves: Leaf[]
  sources: Source[]
  tested: Record<string, Tested>
  isTried: boolean
  ranAt?: string
  close: () => void
}

export function Values({ leaves, sources, tested, isTried, ranAt, close }: Props) {
  const [text, setText] = useState('')
  const [isLost, setIsLost] = useState(false)
  const groups = useMemo(() => grouped(leaves, text), [leaves, text])
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
      {sources.map(({ step, name, canBeTested }) => {
        const found = groups.get(step) ?? []
        const isShape = found[0]?.isShape ?? !leaves.some((one) => one.step === step)
        const at = step === undefined ? ranAt : (tested[step]?.at ?? ranAt)
        if (!found.length && text) return null
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
    </section>
  )
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
