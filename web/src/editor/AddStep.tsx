/** The catalogue, searched: the step that is chosen comes after the one that was selected. */
import { Modal, SegmentedControl, TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import { type KeyboardEvent, useMemo, useState } from 'react'
import { type Spec, useCatalog } from '../api/queries'
import { readable } from '../model/amounts'
import { glyph } from '../model/glyphs'
import { words } from '../words'
import { edit, select, useDocument } from './document'
import { addNode, branchesOf, type Place } from './edits'

const said = words.editor
const MOST = 60
const KINDS = Object.entries(said.kinds).map(([value, label]) => ({ value, label }))

function rank(spec: Spec, asked: string[]): number {
  const name = `${spec.name} ${spec.type}`.toLowerCase()
  const all = `${name} ${spec.summary} ${spec.tags.join(' ')}`.toLowerCase()
  if (!asked.every((word) => all.includes(word))) return -1
  const phrase = asked.join(' ')
  const title = spec.name.toLowerCase()
  const asWhole = phrase && (title === phrase ? 20 : title.startsWith(phrase) ? 10 : title.includes(phrase) ? 5 : 0)
  const begins = asked.some((word) => name.startsWith(word)) ? 2 : 0
  return asked.filter((word) => name.includes(word)).length + begins + (asWhole || 0)
}

export function AddStep({ after, close }: { after: string | null; close: () => void }) {
  const parent = useDocument((s) => (after === null ? undefined : s.flow.nodes[after]))
  const isFirst = useDocument((s) => !Object.keys(s.flow.nodes).length)
  const catalog = useCatalog().data
  const [text, setText] = useState('')
  const [at, setAt] = useState(0)
  const spec = parent && catalog?.[parent.type]
  const places = useMemo(() => placesOf(after, parent, spec), [after, parent, spec])
  const [place, setPlace] = useState(0)
  const [kind, setKind] = useState('')
  const found = useMemo(() => {
    const asked = text.toLowerCase().split(/\s+/).filter(Boolean)
    return Object.values(catalog ?? {})
      .filter((spec) => (spec.effect === undefined) === isFirst)
      .filter((spec) => !kind || spec.effect === kind)
      .map((spec) => ({ spec, rank: rank(spec, asked) }))
      .filter((one) => one.rank >= 0)
      .sort((a, b) => b.rank - a.rank || a.spec.name.localeCompare(b.spec.name))
      .slice(0, MOST)
      .map((one) => one.spec)
  }, [catalog, text, isFirst, kind])
  const add = (spec?: Spec) => {
    if (!spec) return
    let id = ''
    edit((flow) => {
      const added = addNode(flow, spec.type, places[place]?.place ?? { after })
      id = added.id
      return added.flow
    })
    close()
    select([id])
  }
  const walk = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt(Math.min(at + 1, found.length - 1))
    else if (event.key === 'ArrowUp') setAt(Math.max(at - 1, 0))
    else if (event.key === 'Enter') add(found[at])
    else return
    event.preventDefault()
  }
  return (
    <Modal
      opened
      onClose={close}
      title={after ? said.addAfter(parent?.titleOverride || readable(after)) : said.add}
      closeButtonProps={{ 'aria-label': words.dialog.close }}
      size="lg"
    >
      {places.length > 1 && (
        <SegmentedControl
          fullWidth
          mb="sm"
          aria-label={said.branch}
          data={places.map((one, i) => ({ value: String(i), label: one.label }))}
          value={String(place)}
          onChange={(value) => setPlace(Number(value))}
        />
      )}
      <TextInput
        data-autofocus
        role="combobox"
        aria-expanded
        aria-controls="add-step"
        aria-activedescendant={found[at] ? `add-${found[at].type}` : undefined}
        aria-label={said.search}
        placeholder={said.search}
        leftSection={<IconSearch size={16} />}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value)
          setAt(0)
        }}
        onKeyDown={walk}
      />
      {!isFirst && (
        <SegmentedControl
          fullWidth
          mt="xs"
          size="xs"
          className="kinds"
          aria-label={said.kind}
          data={[{ value: '', label: said.allKinds }, ...KINDS]}
          value={kind}
          onChange={(value) => {
            setKind(value)
            setAt(0)
          }}
        />
      )}
      {!found.length && <p className="quiet pad">{said.nothing}</p>}
      <div className="choices" id="add-step" role="listbox" aria-label={said.search} tabIndex={-1}>
        {found.map((spec, i) => (
          <Choice key={spec.type} spec={spec} isAt={i === at} add={() => add(spec)} />
        ))}
      </div>
    </Modal>
  )
}

function Choice({ spec, isAt, add }: { spec: Spec; isAt: boolean; add: () => void }) {
  const kind = spec.effect ?? 'trigger'
  const Glyph = glyph(spec.type, kind)
  return (
    <div
      role="option"
      id={`add-${spec.type}`}
      aria-selected={isAt}
      className={kind}
      onMouseDown={(event) => event.preventDefault()}
      onClick={add}
      onKeyDown={() => {}}
      ref={(el) => (isAt ? el?.scrollIntoView({ block: 'nearest' }) : undefined)}
    >
      <i className="glyph" aria-hidden>
        <Glyph size={17} stroke={1.8} />
      </i>
      <span>
        <strong>{spec.name}</strong>
        <small>{spec.summary}</small>
      </span>
    </div>
  )
}

function placesOf(
  after: string | null,
  parent?: { type: string; loopBody?: string[] } & Parameters<typeof branchesOf>[0],
  spec?: Spec,
) {
  if (after === null || !parent) return []
  const found: { label: string; place: Place }[] = []
  if (parent.type === 'for-each') {
    found.push({ label: said.inLoop, place: { after, inLoop: true } })
    found.push({ label: said.afterLoop, place: { after } })
    return found
  }
  for (const branch of branchesOf(parent, spec)) found.push({ label: branch, place: { after, branch } })
  found.push({ label: said.always, place: { after } })
  return found
}
