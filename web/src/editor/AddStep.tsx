/** The catalogue, searched: the step that is chosen comes after the one that was selected. */
import { Modal, SegmentedControl } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useMemo, useState } from 'react'
import { get } from '../api/client'
import { type Spec, useCatalog } from '../api/queries'
import { noteAdded } from '../inspector/tab'
import { plain, readable } from '../model/amounts'
import { glyph } from '../model/glyphs'
import { branchName } from '../model/graph'
import { rank } from '../model/palette'
import { Finder } from '../parts/Finder'
import { words } from '../words'
import { intents } from '../words.palette'
import { edit, select, useDocument } from './document'
import { addNode, branchesOf, onSameChain, type Place } from './edits'

const said = words.editor
const MOST = 60
const KINDS = Object.entries(said.kinds).map(([value, label]) => ({ value, label }))

/** Of names with the same words, the one with the fewest others. */
const shorter = (a: Spec, b: Spec, asked: string[]) => (asked.length ? a.name.length - b.name.length : 0)

const servedChains = async () => (await get('/v1/chains')).filter((one) => one.isServed).map((one) => one.chainId)

type Props = { after: string | null; before?: string | undefined; close: () => void }

export function AddStep({ after, before, close }: Props) {
  const parent = useDocument((s) => (after === null ? undefined : s.flow.nodes[after]))
  const isFirst = useDocument((s) => !Object.keys(s.flow.nodes).length)
  const catalog = useCatalog().data
  const served = useQuery({ queryKey: ['served'], queryFn: servedChains, staleTime: 60_000 }).data
  const only = served?.length === 1 ? served[0] : undefined
  const [text, setText] = useState('')
  const spec = parent && catalog?.[parent.type]
  const places = useMemo(() => (before ? [] : placesOf(after, parent, spec)), [after, before, parent, spec])
  const [place, setPlace] = useState(0)
  const [kind, setKind] = useState('')
  const found = useMemo(() => {
    const asked = text.toLowerCase().split(/\s+/).filter(Boolean)
    const used = asked.length ? [] : lastUsed()
    const since = (spec: Spec) => (used.includes(spec.type) ? used.indexOf(spec.type) : used.length)
    return Object.values(catalog ?? {})
      .filter((spec) => (spec.effect === undefined) === isFirst)
      .filter((spec) => !kind || spec.effect === kind)
      .map((spec) => ({ spec, rank: rank(spec, asked) }))
      .filter((one) => one.rank >= 0)
      .sort(
        (a, b) =>
          since(a.spec) - since(b.spec) ||
          b.rank - a.rank ||
          shorter(a.spec, b.spec, asked) ||
          a.spec.name.localeCompare(b.spec.name),
      )
      .slice(0, MOST)
      .map((one) => one.spec)
  }, [catalog, text, isFirst, kind])
  const add = (spec: Spec) => {
    noteUsed(spec.type)
    let id = ''
    edit((flow) => {
      const added = addNode(flow, spec.type, places[place]?.place ?? { after, ...(before && { before }) })
      id = added.id
      return onSameChain(added.flow, id, spec, only)
    })
    close()
    noteAdded(id)
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
            <>
              {!text && (
                <div className="intents">
                  {intents.map(([label, asked]) => (
                    <button key={label} type="button" className="chip" onClick={() => setText(asked)}>
                      {label}
                    </button>
                  ))}
                </div>
              )}
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
            </>
          )
        }
      />
    </Modal>
  )
}

const USED = 'dustrun-used-steps'
const KEPT = 5

/** The types that were added last here, newest first. */
function lastUsed(): string[] {
  const kept = localStorage.getItem(USED)
  return kept ? kept.split(' ') : []
}

const noteUsed = (type: string) =>
  localStorage.setItem(USED, [type, ...lastUsed().filter((one) => one !== type)].slice(0, KEPT).join(' '))

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
  for (const branch of branchesOf(parent, spec)) found.push({ label: branchName(branch), place: { after, branch } })
  found.push({ label: said.always, place: { after } })
  return found
}
