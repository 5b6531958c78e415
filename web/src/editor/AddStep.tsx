/** The catalogue, searched: the step that is chosen comes after the one that was selected. */
import { Modal, SegmentedControl } from '@mantine/core'
import { useMemo, useState } from 'react'
import { type Spec, useCatalog } from '../api/queries'
import { plain, readable } from '../model/amounts'
import { glyph } from '../model/glyphs'
import { rank } from '../model/palette'
import { Finder } from '../parts/Finder'
import { words } from '../words'
import { edit, select, useDocument } from './document'
import { addNode, branchesOf, onSameChain, type Place } from './edits'

const said = words.editor
const MOST = 60
const KINDS = Object.entries(said.kinds).map(([value, label]) => ({ value, label }))

/** Of names with the same words, the one with the fewest others. */
const shorter = (a: Spec, b: Spec, asked: string[]) => (asked.length ? a.name.length - b.name.length : 0)

export function AddStep({ after, close }: { after: string | null; close: () => void }) {
  const parent = useDocument((s) => (after === null ? undefined : s.flow.nodes[after]))
  const isFirst = useDocument((s) => !Object.keys(s.flow.nodes).length)
  const catalog = useCatalog().data
  const [text, setText] = useState('')
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
      .sort((a, b) => b.rank - a.rank || shorter(a.spec, b.spec, asked) || a.spec.name.localeCompare(b.spec.name))
      .slice(0, MOST)
      .map((one) => one.spec)
  }, [catalog, text, isFirst, kind])
  const add = (spec: Spec) => {
    let id = ''
    edit((flow) => {
      const added = addNode(flow, spec.type, places[place]?.place ?? { after })
      id = added.id
      return onSameChain(added.flow, id, spec)
    })
    close()
    select([id])
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
      <Finder
        label={said.search}
        list={said.search}
        nothing={said.nothing}
        text={text}
        setText={setText}
        found={found}
        keyOf={(spec) => spec.type}
        choose={add}
        classOf={kindOf}
        render={(spec) => <Choice spec={spec} />}
        between={
          !isFirst && (
            <SegmentedControl
              fullWidth
              mt="xs"
              size="xs"
              className="kinds"
              aria-label={said.kind}
              data={[{ value: '', label: said.allKinds }, ...KINDS]}
              value={kind}
              onChange={setKind}
            />
          )
        }
      />
    </Modal>
  )
}

const kindOf = (spec: Spec) => spec.effect ?? 'trigger'

function Choice({ spec }: { spec: Spec }) {
  const Glyph = glyph(spec.type, kindOf(spec))
  return (
    <>
      <i className="glyph" aria-hidden>
        <Glyph size={17} stroke={1.8} />
      </i>
      <span>
        <strong>{spec.name}</strong>
        <small>{plain(spec.summary)}</small>
      </span>
    </>
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
