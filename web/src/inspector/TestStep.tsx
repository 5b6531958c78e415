/** One step by itself: with the inputs of the last run, a sample, or what is written here. Only reads leave the server. */
import { Button, SegmentedControl, Textarea } from '@mantine/core'
import { IconPin, IconPinnedOff, IconPlayerPlay } from '@tabler/icons-react'
import { useState } from 'react'
import { type Data, type Json, post, type Run } from '../api/client'
import { parse, stringify } from '../api/exact'
import type { Spec } from '../api/queries'
import { edit, useDocument } from '../editor/document'
import { patchNode } from '../editor/edits'
import { Ladder, Warnings } from '../effects/Ladder'
import { RunStatus } from '../parts/Badges'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { canBePinned } from '../run/PinButton'
import { words } from '../words'
import { useAttempt } from './attempt'

const said = words.test
type Answer = Data<'/v1/actions/{type}/test', 'post'>
type From = 'last' | 'sample' | 'settings'
type Props = { id: string; spec?: Spec; last?: Run | null }

/** Control nodes and triggers do nothing alone; the server says so of others. */
export const canBeTested = (spec?: Spec) => Boolean(spec?.effect) && spec?.effect !== 'control'

export function TestStep({ id, spec, last }: Props) {
  const node = useDocument((s) => s.flow.nodes[id])
  const ran = last?.executionState?.[id]?.input as Json | null | undefined
  const sources: Record<From, unknown> = { last: ran, sample: spec?.exampleInput, settings: node?.payload ?? {} }
  const has = (['last', 'sample', 'settings'] as const).filter((one) => sources[one])
  const [from, setFrom] = useState<From>(has[0] ?? 'settings')
  const [text, setText] = useState(() => stringify(sources[has[0] ?? 'settings'], 2))
  const inputs = read(text)
  const { answer, error, isBusy, go } = useAttempt(() => {
    const connector = node?.connector ? { connector: node.connector } : {}
    return post('/v1/actions/{type}/test', { path: { type: node?.type ?? '' } }, { inputs, ...connector } as never)
  })
  if (!node) return null
  const choose = (next: From) => {
    setFrom(next)
    setText(stringify(sources[next] ?? {}, 2))
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
      <Textarea
        label={said.inputs}
        autosize
        minRows={3}
        maxRows={14}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        error={inputs === undefined && words.editor.payloadWrong}
        className="code"
        dir="auto"
      />
      <Button leftSection={<IconPlayerPlay size={15} />} loading={isBusy} disabled={inputs === undefined} onClick={go}>
        {said.go}
      </Button>
      <Trouble error={error} />
      {answer && <Answered id={id} answer={answer} canPin={canBePinned(node.type, spec?.effect)} />}
    </div>
  )
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
