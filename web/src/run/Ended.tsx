/** What is to be known of a run that ended without success: what is final, what failed and why, and what mends it. */
import { Button } from '@mantine/core'
import { IconRefresh } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import { Link } from 'wouter'
import type { Effects } from '../api/client'
import { refresh, useEffects } from '../api/queries'
import type { NodeStates } from '../model/fold'
import type { Flow } from '../model/graph'
import { factsOf, refusedBy, runHeading, unknownIn } from '../model/outcomes'
import { Fault } from '../parts/Fault'
import { words } from '../words'
import { useRunStore } from './store'

const said = words.outcomes
const MOST = 6
/** What comes first: another look at what is not known yet, or the rule that refuses it. */
type First = 'look' | 'rule' | null
type Props = {
  runId: string
  flow?: Flow | null
  named?: Flow
  children?: (failed: string | null, first: First) => ReactNode
}

/** `named`: only for the names of steps, where `flow` also says what is left to do; `children`: more buttons, given the step that failed and what the first button does. */
export function Ended({ runId, flow, named, children }: Props) {
  const effects = useEffects(runId).data
  const nodes = useRunStore((s) => (s.runId === runId ? s.nodes : NO_NODES))
  if (!effects || effects.status === 'success' || effects.status === 'running' || effects.status === 'waiting')
    return null
  const [failed, state] = Object.entries(nodes).find(([, one]) => one.status === 'failure') ?? [null, undefined]
  const wallet = refusedBy(effects, failed)
  const first: First = unknownIn(effects.mode, effects).length ? 'look' : wallet ? 'rule' : null
  return (
    <section className="ended" role="status">
      <h2>{runHeading({ mode: effects.mode, status: effects.status, failed, effects, flow: flow ?? named })}</h2>
      {state?.error && <Fault error={state.error} wallet={wallet} />}
      {flow && <Facts effects={effects} nodes={nodes} flow={flow} />}
      <div className="acts">
        {first === 'look' && (
          <Button leftSection={<IconRefresh size={15} />} onClick={() => void refresh('run', 'effects')}>
            {said.lookAgain}
          </Button>
        )}
        {first === 'rule' && (
          <Button component={Link} href={`/wallets/${wallet}#policy`}>
            {said.openRule}
          </Button>
        )}
        {children?.(failed, first)}
      </div>
    </section>
  )
}

function Facts({ effects, nodes, flow }: { effects: Effects; nodes: NodeStates; flow: Flow }) {
  const found = factsOf(effects.mode, effects, nodes, flow)
  const rows = (['sent', 'done', 'todo'] as const).filter((name) => found[name].length)
  if (!rows.length) return null
  return (
    <dl className="endfacts">
      {rows.map((name) => (
        <div key={name}>
          <dt>{said.facts[name]}</dt>
          <dd dir="auto">
            {found[name].slice(0, MOST).map((text, at) => (
              <div key={at}>{text}</div>
            ))}
            {found[name].length > MOST && <div>{words.value.more(found[name].length - MOST)}</div>}
          </dd>
        </div>
      ))}
    </dl>
  )
}

const NO_NODES: NodeStates = {}
