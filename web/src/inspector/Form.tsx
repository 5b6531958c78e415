/** The settings of a step, from the schema of its type. What the schema does not know is kept. */
import { TextInput } from '@mantine/core'
import { useCallback, useEffect, useRef, useState } from 'react'
import type { Json, Problem, Run } from '../api/client'
import { parse } from '../api/exact'
import type { Spec } from '../api/queries'
import { edit, useDocument } from '../editor/document'
import { patchNode, renameAsked, setField } from '../editor/edits'
import { readable } from '../model/amounts'
import { saySchedule, TIMED } from '../model/schedule'
import type { Leaf } from '../model/values'
import { readCurl } from '../paste/curl'
import { words } from '../words'
import { condition } from '../words.condition'
import { ConditionRows } from './ConditionRows'
import { ConnectorChoice, WalletChoice } from './ConnectorChoice'
import { Expression } from './Expression'
import { Field } from './Field'
import { InCoins } from './InCoins'
import { useKnown } from './known'
import { Often } from './Often'
import { Questions } from './Questions'
import { ScheduleWords } from './ScheduleWords'
import { SimulatedAs } from './SimulatedAs'
import { StartsBy } from './StartsBy'
import { fromText, type Schema, toText } from './schema'
import { focusFirst } from './tab'
import { useTested, useTrial } from './trial'
import { useSummary } from './units'
import { Values } from './Values'
import '../style/fields.css'

const said = words.inspector
/** So few settings are shown rather than hidden behind a button. */
const FEW = 2
/** What a command says of a request, or leaves to its defaults. */
const REQUEST = new Set(['url', 'method', 'headers', 'query', 'json', 'form', 'body'])
/** Said of no value by its name: every answer has it. */
const ENVELOPE = new Set(['body'])
type Props = { id: string; spec?: Spec; problems: Problem[]; last?: Run | null }

export default function Form({ id, spec, problems, last }: Props) {
  const node = useDocument((s) => s.flow.nodes[id])
  const flow = useDocument((s) => s.flow)
  const trial = useTrial(useDocument((s) => s.id))
  const [more, setMore] = useState(false)
  const tested = useTested(useDocument((s) => s.id))
  const [points, setPoints] = useState(false)
  const close = useCallback(() => setPoints(false), [])
  const [notice, setNotice] = useState('')
  const { context, leaves, steps } = useKnown(id, last)
  const all = useRef<HTMLDivElement>(null)
  const isReady = spec !== undefined
  useEffect(() => {
    if (isReady) focusFirst(id, all.current)
  }, [id, isReady])
  if (!node) return null
  const stepName = (step: string) => flow.nodes[step]?.titleOverride || readable(step)
  const nameOf = ({ step, keys }: Leaf) => {
    return [step === undefined ? condition.start : stepName(step), ...keys.filter((key) => !ENVELOPE.has(key))].join(
      ' › ',
    )
  }
  const schema = spec?.payloadSchema as Schema | undefined
  const trigger = spec && spec.effect === undefined ? <StartsBy id={id} type={node.type} /> : null
  if (!schema)
    return (
      <div className="form">
        {trigger}
        <p className="quiet">{spec ? said.noSettings : said.unknown}</p>
        <Raw id={id} problems={problems} />
      </div>
    )
  const properties = schema.properties ?? {}
  const payload = node.payload ?? {}
  const examples = (spec?.exampleInput ?? {}) as Json
  const isAsked = (name: string) => schema.required?.includes(name) || payload[name] !== undefined || name in examples
  const known = Object.keys(properties)
  const required = known.filter((name) => schema.required?.includes(name))
  const names = [...new Set([...required, ...known, ...Object.keys(payload)])]
  const own = (name: string) =>
    problems.filter(
      (one) =>
        one.field === `nodes.${id}.payload.${name}` ||
        one.field?.startsWith(`nodes.${id}.payload.${name}.`) ||
        one.field?.startsWith(`nodes.${id}.payload.${name}[`),
    )
  const isSaid = isSaidAbove(node.type, payload)
  const hidden = names.filter((name) => !isAsked(name) || (isSaid(name) && !own(name).length))
  const rest = hidden.length > FEW || hidden.some(isSaid) ? hidden : []
  // nobody has done anything wrong before they began
  const isBegun = Object.keys(payload).length > 0
  const others = problems.filter((one) => !one.field?.startsWith(`nodes.${id}.payload.`))
  const set = (name: string, value: unknown) => edit((flow) => setField(flow, id, name, value), `${id}.${name}`)
  const field = (name: string) =>
    name === 'inputSchema' && spec?.effect === undefined ? (
      <Questions
        key={name}
        schema={payload[name]}
        change={(schema) => set(name, schema)}
        renamed={(from, to, schema) => edit((flow) => renameAsked(setField(flow, id, name, schema), from, to))}
      >
        {plainField(name)}
      </Questions>
    ) : (
      plainField(name)
    )
  const plainField = (name: string) => (
    <InCoins
      key={name}
      type={node.type}
      name={name}
      payload={payload}
      hasFaults={own(name).length > 0}
      onChange={(units) => set(name, units)}
    >
      <Field
        name={name}
        schema={properties[name] ?? {}}
        isRequired={Boolean(schema.required?.includes(name))}
        value={payload[name]}
        example={examples[name]}
        payload={payload}
        context={context}
        problems={own(name)}
        takePasted={name === 'url' ? takeCurl : undefined}
        onChange={(value) => set(name, value)}
      />
      <Often type={node.type} name={name} value={payload[name]} pick={(text) => set(name, text)} />
    </InCoins>
  )
  /** A command in the field of the address is the whole request; its secrets stay out of the workflow. */
  const takeCurl = (text: string) => {
    if (!/^\s*curl\s/.test(text)) return false
    const curl = readCurl(text, parse)
    const lost = Object.keys(curl?.payload ?? {}).filter((name) => !(name in properties))
    const kept = Object.fromEntries(Object.entries(curl?.payload ?? {}).filter(([name]) => name in properties))
    const others = Object.fromEntries(Object.entries(payload).filter(([name]) => !REQUEST.has(name)))
    if (curl) edit((flow) => patchNode(flow, id, { payload: { ...others, ...kept } }))
    const leftOut = [...(curl?.leftOut ?? []), ...lost]
    setNotice(!curl ? words.paste.noCommand : leftOut.length ? words.paste.leftOut(leftOut.join(', ')) : '')
    return true
  }
  const isTrigger = spec?.effect === undefined
  const form = (
    <div
      ref={all}
      className="form"
      onFocusCapture={(event) => event.target.classList.contains('cm-content') && setPoints(true)}
    >
      {trigger}
      <NameIt id={id} />
      {notice && (
        <p className="banner notice" role="status">
          {notice}
        </p>
      )}
      {others.map((one, i) => (
        <p key={i} className={isBegun ? 'fault' : 'err yet'} role={isBegun ? 'alert' : undefined}>
          {isBegun ? one.message : one.message.replaceAll('`', '')}
        </p>
      ))}
      {node.type === 'if' && payload.condition === undefined && (
        <ConditionRows id={id} leaves={leaves} nameOf={nameOf} context={context} />
      )}
      {TIMED.has(node.type) && <ScheduleWords id={id} />}
      {spec?.effect === 'spend' && <WalletChoice id={id} />}
      {spec?.connectors?.length ? (
        <ConnectorChoice id={id} kinds={spec.connectors} isRequired={Boolean(spec.connectorRequired)} />
      ) : null}
      {names.filter((name) => !rest.includes(name)).map(field)}
      {spec && <SimulatedAs id={id} spec={spec} />}
      {rest.length > 0 && (
        <button type="button" className="morefields" aria-expanded={more} onClick={() => setMore(!more)}>
          {more ? said.fewer : said.moreFields(rest.length)}
        </button>
      )}
      {more &&
        grouped(rest, properties).map(([group, names]) => (
          <div key={group} role="group" aria-label={group || undefined}>
            {group && <div className="lab">{group}</div>}
            {names.map(field)}
          </div>
        ))}
      {!names.length && <p className="quiet">{said.noSettings}</p>}
    </div>
  )
  return (
    <>
      {form}
      {points && !isTrigger && (
        <Values
          leaves={leaves}
          steps={steps}
          tested={tested}
          isTried={trial !== undefined}
          ranAt={last?.startedAt ?? undefined}
          close={close}
        />
      )}
    </>
  )
}

/** A second step of a type is told from the first by a name, not by a number. */
function NameIt({ id }: { id: string }) {
  const node = useDocument((s) => s.flow.nodes[id])
  const [isAsked] = useState(() => {
    const { nodes } = useDocument.getState().flow
    const isOne = Object.entries(nodes).some(([other, one]) => other !== id && one.type === nodes[id]?.type)
    return /[a-z]\d+$/.test(id) && isOne && !nodes[id]?.titleOverride
  })
  const summary = useSummary(node)
  if (!isAsked || !node) return null
  return (
    <TextInput
      label={words.editor.renameStep}
      placeholder={summary ?? readable(id)}
      value={node.titleOverride ?? ''}
      onChange={(event) => {
        const titleOverride = event.currentTarget.value || undefined
        edit((flow) => patchNode(flow, id, { titleOverride }), `${id} title`)
      }}
    />
  )
}

/** What words above the fields say already: when a schedule runs, and what decides an `if`. */
function isSaidAbove(type: string, payload: Json): (name: string) => boolean {
  if (TIMED.has(type) && saySchedule(type, payload) !== null) return () => true
  if (type === 'if' && payload.condition === undefined) return (name) => name === 'condition'
  return () => false
}

/** The fields by their groups, those of none first. */
function grouped(names: string[], properties: Record<string, Schema>): [string, string[]][] {
  const groups = new Map<string, string[]>([['', []]])
  for (const name of names) {
    const group = properties[name]?.['x-group'] ?? ''
    groups.set(group, [...(groups.get(group) ?? []), name])
  }
  return [...groups].filter(([, one]) => one.length)
}

/** The payload as it is, for what has no schema. */
function Raw({ id, problems }: { id: string; problems: Problem[] }) {
  const payload = useDocument((s) => s.flow.nodes[id]?.payload)
  return (
    <Expression
      label={said.raw}
      value={toText(payload)}
      context={{ roots: {} }}
      problems={problems}
      onChange={(text) => {
        const value = fromText(text, { type: 'object' })
        if (typeof value === 'object' && value !== null)
          edit((flow) => patchNode(flow, id, { payload: value as Json }), `${id}.payload`)
      }}
    />
  )
}
