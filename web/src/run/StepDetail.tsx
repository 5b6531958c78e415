/** What went into a step and what came out of it, each attempt by itself, and the runs that it called. */
import { ActionIcon, Tabs } from '@mantine/core'
import { IconX } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { Link } from 'wouter'
import type { Json, Run } from '../api/client'
import { useCatalog, useEffects, useRunNode } from '../api/queries'
import { WhyStep } from '../effects/Why'
import { readable, short } from '../model/amounts'
import type { Flow } from '../model/graph'
import { noOutput, refusedBy, requestName, requestOutcome, transactionOutcome } from '../model/outcomes'
import { NodeStatus, StatusBadge } from '../parts/Badges'
import { Fault } from '../parts/Fault'
import { Time, took } from '../parts/Time'
import { Value } from '../parts/Value'
import { words } from '../words'
import { pages } from '../words.pages'
import { ItemPicker, Items } from './ItemPicker'
import { calledBy, loopsAround, type Outcome, outcomeIn, pathOf } from './outcome'
import { PinButton } from './PinButton'
import { useRunStore } from './store'

const said = words.step

export function StepDetail({ id, run, flow, close }: { id: string; run: Run; flow: Flow; close: () => void }) {
  const live = useRunStore((s) => s.nodes[id])
  const picked = useRunStore((s) => s.picked)
  const around = loopsAround(flow, id)
  const found = useRunNode(run.id, around[0] ?? id)
  const kept = outcomeIn(found.data, around, id, picked)
  const isWhich = around.some((loop) => picked[loop] === undefined)
  const result = kept?.result ?? (isWhich ? undefined : live?.result)
  const error = (kept?.error ?? live?.error) as Json | null | undefined
  const node = flow.nodes[id]
  const isLoop = Boolean(node?.loopBody?.length)
  const effects = useEffects(error ? run.id : null).data
  const refusing = effects ? refusedBy(effects, id) : null
  const spends = useCatalog().data?.[node?.type ?? '']?.effect === 'spend'
  return (
    <aside className="inspector" aria-label={id}>
      <header>
        <div>
          <strong dir="auto">{node?.titleOverride || readable(id)}</strong>
          <span>
            <code>{id}</code> {node?.type}{' '}
            {live && <NodeStatus status={live.status} branch={live.branch} kept={live.kept} />}{' '}
            {took(kept?.startedAt, kept?.finishedAt)}
          </span>
        </div>
        <ActionIcon variant="subtle" color="gray" aria-label={said.close} onClick={close}>
          <IconX size={16} />
        </ActionIcon>
      </header>
      {around.map((loop) => (
        <ItemPicker key={loop} loop={loop} />
      ))}
      {kept?.keptFrom && (
        <p className="quiet">
          {words.runs.keptAbout} <Link href={`/runs/${kept.keptFrom}`}>{words.outcomes.openRun}</Link>
        </p>
      )}
      {error && <Fault error={error} wallet={refusing} />}
      <Tabs defaultValue={isLoop ? 'items' : 'output'} keepMounted={false}>
        <Tabs.List>
          {isLoop && <Tabs.Tab value="items">{said.items}</Tabs.Tab>}
          <Tabs.Tab value="output">{said.output}</Tabs.Tab>
          <Tabs.Tab value="input">{said.input}</Tabs.Tab>
          <Tabs.Tab value="attempts">{said.attempts}</Tabs.Tab>
          <Tabs.Tab value="sent">{said.sent}</Tabs.Tab>
          {spends && <Tabs.Tab value="why">{pages.why.tab}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="items">
          <Items loop={id} />
        </Tabs.Panel>
        <Tabs.Panel value="output">
          {result === undefined || result === null ? (
            <NoOutput run={run} id={id} status={isWhich ? undefined : (kept?.status ?? live?.status)}>
              {isWhich ? said.pickFirst : live?.resultOmitted ? said.tooLarge : noOutput(kept?.status ?? live?.status)}
            </NoOutput>
          ) : (
            <>
              {/* what is stored has its numbers digit by digit; a stream may have them as text */}
              {kept?.result === result && <PinButton run={run} id={id} result={result} />}
              <Value value={result} label={said.output} />
            </>
          )}
        </Tabs.Panel>
        <Tabs.Panel value="input">
          {kept?.input === undefined || kept.input === null ? (
            <p className="quiet">{isWhich ? said.pickFirst : said.noInput}</p>
          ) : (
            <Value value={kept.input} label={said.input} />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="attempts">
          <Attempts kept={kept} />
        </Tabs.Panel>
        <Tabs.Panel value="sent">
          <Sent run={run} id={id} path={pathOf(around, id, picked)} result={result} />
        </Tabs.Panel>
        <Tabs.Panel value="why">
          <WhyStep id={id} runId={run.id} workflowId={run.workflowId} version={run.workflowVersion} flow={flow} />
        </Tabs.Panel>
      </Tabs>
    </aside>
  )
}

/** Why there is no output; of a step that failed, the way to what mends it. */
function NoOutput({ run, id, status, children }: { run: Run; id: string; status?: string; children: ReactNode }) {
  return (
    <p className="quiet">
      {children}{' '}
      {status === 'failure' && run.workflowId && (
        <Link href={`/workflows/${run.workflowId}?step=${id}`}>{words.outcomes.openSettings}</Link>
      )}
    </p>
  )
}

/** Earlier attempts, oldest first, then the one that counts. */
function Attempts({ kept }: { kept?: Outcome }) {
  const earlier = (kept?.attempts ?? []) as Json[]
  if (!kept) return <p className="quiet">{said.noAttempts}</p>
  const { attempts: _, iterations: __, input: ___, ...last } = kept
  const all = [...earlier, last as Json]
  return all.map((attempt, i) => (
    <section key={i} className="attempt">
      <h3>
        {said.attempt(Number(attempt.attempt ?? i + 1))} <Time at={attempt.startedAt as string} />{' '}
        {typeof attempt.status === 'string' && <NodeStatus status={attempt.status} />}
      </h3>
      <Value value={attempt} label={said.attempt(i + 1)} />
    </section>
  ))
}

type SentProps = { run: Run; id: string; path: string | null; result: unknown }

/** The transactions of a step, and the runs that it called. */
function Sent({ run, id, path, result }: SentProps) {
  const effects = useEffects(run.id)
  const isOf = (one: { nodeId: string; path: string }) => one.nodeId === id && (path === null || one.path === path)
  const txs = (effects.data?.transactions ?? []).filter(isOf)
  const requests = (effects.data?.requests ?? []).filter(isOf)
  const children = (effects.data?.children ?? []).filter(isOf)
  const own = calledBy(result)
  const called = children.length ? children : own ? [{ runId: own, path: path ?? id, status: '' }] : []
  if (!txs.length && !called.length && !requests.length) return <p className="quiet">{said.nothingSent}</p>
  return (
    <ul className="sentlist">
      {txs.slice(0, MOST).map((tx) => (
        <li key={`${tx.path} ${tx.item}`}>
          <strong dir="auto">{tx.about}</strong>
          <small>
            {tx.path} {tx.hash && <code title={tx.hash}>{short(tx.hash)}</code>}{' '}
            {transactionOutcome(run.mode, tx.status, tx.hash).text}
          </small>
          {tx.error && (
            <small className="bad" dir="auto">
              {String((tx.error as Json).message ?? tx.status)}
            </small>
          )}
        </li>
      ))}
      {requests.slice(0, MOST).map((one) => (
        <li key={`${one.path} ${one.attempt}`}>
          <strong dir="auto">{requestName(one.request, one.action)}</strong>
          <small>
            {one.path} · {requestOutcome(run.mode, one).text}
          </small>
        </li>
      ))}
      {called.slice(0, MOST).map((one) => (
        <li key={one.runId}>
          <Link href={`/runs/${one.runId}`}>{said.calledRun}</Link> {one.status && <StatusBadge status={one.status} />}
          <small>
            {one.path} · {one.runId}
          </small>
        </li>
      ))}
      {Math.max(txs.length, called.length, requests.length) > MOST && <li className="quiet">{said.andMore}</li>}
    </ul>
  )
}

const MOST = 100
