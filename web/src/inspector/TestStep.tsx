/** One step by itself: with the inputs of the last run, a sample, or what is written here. Only reads leave the server. */
import { Button, SegmentedControl, Textarea, TextInput } from '@mantine/core'
import { IconPin, IconPinnedOff, IconPlayerPlay } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { type Data, type Json, post, type Run } from '../api/client'
import { parse, stringify } from '../api/exact'
import type { Spec } from '../api/queries'
import { edit, useDocument } from '../editor/document'
import { patchNode } from '../editor/edits'
import { Ladder, Warnings } from '../effects/Ladder'
import { expressionsIn, resolved } from '../model/inputs'
import { RunStatus } from '../parts/Badges'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { canBePinned } from '../run/PinButton'
import { words } from '../words'
import { useAttempt } from './attempt'
import { useKnown } from './known'
import { type Context, walk } from './paths'
import type { Schema } from './schema'
import { keepResult } from './trial'

const said = words.test
const NOTHING: Json = {}
type Answer = Data<'/v1/actions/{type}/test', 'post'>
type From = 'last' | 'sample' | 'settings'
type Props = { id: string; spec?: Spec; last?: Run | null }

/** Control nodes and triggers do nothing alone; the server says so of others. */
export const canBeTested = (spec?: Spec) => Boolean(spec?.effect) && spec?.effect !== 'control'

export function TestStep({ id, spec, last }: Props) {
  const node = useDocument((s) => s.flow.nodes[id])
  const workflowId = useDocument((s) => s.id)
  const ran = last?.executionState?.[id]?.input as Json | null | undefined
  const own = useOwnInputs(node?.payload, id, spec, last)
  const sources: Record<From, unknown> = { settings: own.inputs, last: ran, sample: spec?.exampleInput }
  const has = (['settings', 'last', 'sample'] as const).filter((one) => sources[one])
  const [from, setFrom] = useState<From>('settings')
  const [edited, setEdited] = useState<string | null>(null)
  const text = edited ?? stringify(sources[from] ?? {}, 2)
  const inputs = read(text)
  const asked = from === 'settings' && edited === null ? own.missing : []
  const { answer, error, isBusy, go } = useAttempt(async () => {
    const connector = node?.connector ? { connector: node.connector } : {}
    const path = { type: node?.type ?? '' }
    const found = await post('/v1/actions/{type}/test', { path }, { inputs, ...connector } as never)
    if (found.result !== null && found.result !== undefined) keepResult(workflowId, id, found.result)
    return found
  })
  if (!node) return null
  const choose = (next: From) => {
    setFrom(next)
    setEdited(null)
  }
  return (
    <div className="form">
      {node.pinned !== undefined && <Pinned id={id} />}
      <SegmentedControl
        fullWidth
        aria-label={said.from}
        data={has.map((value) => ({ value, label: said.sources[value] }))}
        value={from}
        onChange={(value) => choose(value as From)}
      />
      {asked.map((expression) => (
        <TextInput
          key={expression}
          label={said.missing(expression)}
          description={said.missingAbout}
          value={own.filled[expression] ?? ''}
          onChange={(event) => own.fill(expression, event.currentTarget.value)}
        />
      ))}
      <Textarea
        label={said.inputs}
        autosize
        minRows={3}
        maxRows={14}
        value={text}
        onChange={(event) => setEdited(event.currentTarget.value)}
        error={inputs === undefined && words.editor.payloadWrong}
        className="code"
        dir="auto"
      />
      <Button
        leftSection={<IconPlayerPlay size={15} />}
        loading={isBusy}
        disabled={inputs === undefined || asked.some((one) => !own.filled[one]?.trim())}
        onClick={go}
      >
        {said.go}
      </Button>
      <Trouble error={error} />
      {answer && <Answered id={id} answer={answer} canPin={canBePinned(node.type, spec?.effect)} />}
    </div>
  )
}

/** The step's own settings with the last known values: what nobody knows yet is asked for. */
function useOwnInputs(payload: Json = NOTHING, id: string, spec?: Spec, last?: Run | null) {
  const { context } = useKnown(id, last)
  const { properties = {} } = (spec?.payloadSchema ?? {}) as Schema
  // code and templates of other languages are nothing that the server computes
  const isRaw = ([name]: [string, unknown]) => Boolean(properties[name]?.['x-raw'])
  const raw = Object.fromEntries(Object.entries(payload).filter(isRaw))
  const written = Object.fromEntries(Object.entries(payload).filter((one) => !isRaw(one)))
  const [filled, setFilled] = useState<Record<string, string>>({})
  const open = expressionsIn(written).filter((one) => !walk(context, one).found)
  const computed = useComputed(context, open)
  const known = (expression: string) => {
    const seen = walk(context, expression)
    if (seen.found) return seen
    if (expression in computed) return { found: true, value: computed[expression] }
    const text = filled[expression]?.trim()
    return text ? { found: true, value: readValue(text) } : { found: false }
  }
  return {
    inputs: { ...(resolved(written, known) as Json), ...raw } as Json,
    missing: open.filter((one) => !(one in computed)),
    filled,
    fill: (expression: string, text: string) => setFilled((old) => ({ ...old, [expression]: text })),
  }
}

/** What the server makes of expressions that are more than a path, with the values of the last run. */
function useComputed({ runId, path = '', isTrial }: Context, expressions: string[]): Json {
  const found = useQuery({
    queryKey: ['computed', runId, path, expressions],
    queryFn: async () => {
      const ask = (template: string) =>
        post('/v1/expressions/evaluate', {}, { template, runId: runId ?? '', path, isExpression: true })
      const answers = await Promise.all(expressions.map(ask))
      const pairs = expressions.flatMap((one, i) => (answers[i]?.error ? [] : [[one, answers[i]?.value]]))
      return Object.fromEntries(pairs) as Json
    },
    enabled: runId !== undefined && !isTrial && expressions.length > 0,
    retry: false,
  })
  return found.data ?? NOTHING
}

function readValue(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return text
  }
}

/** The inputs; undefined where the text is no JSON object. */
function read(text: string): Json | undefined {
  try {
    const value = parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined
  } catch {
    return undefined
  }
}

function Answered({ id, answer, canPin }: { id: string; answer: Answer; canPin: boolean }) {
  const failure = answer.error as { message?: string } | null | undefined
  const rungs = answer.effects ? { simulate: answer.effects } : {}
  const hasEffects = Boolean(answer.effects?.transactions.length || answer.effects?.requests.length)
  return (
    <section aria-label={said.answer} className="tested">
      <header>
        <RunStatus status={answer.status} />
        {answer.durationMs !== null && answer.durationMs !== undefined && (
          <span className="quiet num">{answer.durationMs} ms</span>
        )}
        {canPin && answer.result !== null && answer.result !== undefined && (
          <Button
            size="compact-sm"
            variant="default"
            leftSection={<IconPin size={14} />}
            title={words.pin.about}
            onClick={() => edit((flow) => patchNode(flow, id, { pinned: answer.result }))}
          >
            {words.pin.pin}
          </Button>
        )}
      </header>
      {failure?.message && (
        <p className="fault" role="alert" dir="auto">
          {failure.message}
        </p>
      )}
      {answer.result !== null && answer.result !== undefined && (
        <Value value={answer.result} label={said.answerValue} />
      )}
      {hasEffects && <Ladder rungs={rungs} modes={['simulate']} />}
      <Warnings rungs={rungs} />
    </section>
  )
}

/** What simulations use in the place of what the step would do. */
function Pinned({ id }: { id: string }) {
  const pinned = useDocument((s) => s.flow.nodes[id]?.pinned)
  return (
    <section aria-label={said.pinned} className="tested">
      <header>
        <strong>{said.pinned}</strong>
        <Button
          size="compact-sm"
          variant="default"
          leftSection={<IconPinnedOff size={14} />}
          onClick={() => edit((flow) => patchNode(flow, id, { pinned: undefined }))}
        >
          {words.pin.undo}
        </Button>
      </header>
      <Value value={pinned} label={said.pinnedValue} />
    </section>
  )
}
