/** A node on the canvas: what it is, how it stands in the run, and what it moved on each step of the ladder. */
import { Handle, type NodeProps, Position } from '@xyflow/react'
import { memo, useMemo } from 'react'
import { TONE } from '../diff/changes'
import { useDifferences } from '../diff/store'
import { linesOf, useRungs } from '../effects/store'
import { useSummary } from '../inspector/units'
import { readable } from '../model/amounts'
import type { NodeState } from '../model/fold'
import { glyph } from '../model/glyphs'
import { Badge, isAsked, messageOf, NodeStatus, StepBadge } from '../parts/Badges'
import { useRunStore } from '../run/store'
import { words } from '../words'
import { versions } from '../words.versions'
import { useCanvasActs } from './acts'
import type { Card } from './layout'
import { useShaping } from './shaping'
import { useDrawn, useShown, useSource } from './source'
import { useWrong } from './wrong'

function useNode(id: string) {
  const node = useShown((s) => s.flow.nodes[id])
  const state = useRunStore((s) => s.nodes[id])
  const wrong = useWrong((s) => s.counts[id] ?? 0)
  const shapes = useShaping((s) => s.levels[id])
  const spec = useDrawn().catalog?.[node?.type ?? '']
  return { node, state, wrong, shapes, spec, kind: spec ? (spec.effect ?? 'trigger') : 'unknown' }
}

/** The class of a card: all that is seen of it from far away. */
function useLook(id: string, selected: boolean) {
  const { node, state, wrong, shapes, kind } = useNode(id)
  const change = useDifferences((s) => s.byNode[id]?.kind)
  const asked = state && isAsked(state, node?.type ?? '') && 'asked'
  const marks = [state?.status, asked, change, selected && 'chosen', wrong && 'wrong', shapes && `shapes-${shapes}`]
  return ['card', kind, ...marks].filter(Boolean).join(' ')
}

/** Below the name: how many items are done, which attempt it is, what it says; else what it is. */
function about(state: NodeState | undefined, name: string): string {
  if (!state) return name
  const items = state.items && words.step.itemsDone(state.items.done, state.items.all)
  const tries = state.attempt > 1 && words.step.attempt(state.attempt)
  return [items, tries, messageOf(state.message)].filter(Boolean).join(' · ') || name
}

export const NodeCard = memo(function NodeCard({ id, selected }: NodeProps<Card>) {
  const look = useLook(id, selected)
  return useDrawn().isFar ? <Box look={look} /> : <Near id={id} look={look} />
})

const Box = ({ look }: { look: string }) => (
  <div className={look}>
    <header>
      <i className="glyph" />
    </header>
  </div>
)

function Near({ id, look }: { id: string; look: string }) {
  const { node, state, wrong, spec, kind } = useNode(id)
  const summary = useSummary(node)
  const difference = useDifferences((s) => s.byNode[id])
  if (!node) return null
  const Glyph = glyph(node.type, kind)
  return (
    <>
      <div className={look}>
        <Handle type="target" position={Position.Top} />
        <header>
          <i className="glyph" aria-hidden>
            <Glyph size={17} stroke={1.8} />
          </i>
          <div>
            <strong dir="auto">{node.titleOverride || readable(id)}</strong>
            <span dir="auto">{about(state, summary ?? spec?.name ?? node.type)}</span>
          </div>
          {wrong > 0 ? (
            <Badge tone="bad">{words.editor.problems(wrong)}</Badge>
          ) : difference ? (
            <Badge tone={TONE[difference.kind]}>{versions.kinds[difference.kind]}</Badge>
          ) : (
            state && <StepBadge state={state} type={node.type} />
          )}
        </header>
        <Rungs id={id} />
        <Handle type="source" position={Position.Bottom} />
      </div>
      {!node.children?.length && <PlusBelow id={id} name={node.titleOverride || readable(id)} />}
    </>
  )
}

/** Where nothing comes after a step. */
function PlusBelow({ id, name }: { id: string; name: string }) {
  const add = useCanvasActs((s) => s.add)
  if (!add) return null
  return (
    <button
      type="button"
      className="plus below nodrag nopan"
      aria-label={words.editor.addAfter(name)}
      onClick={(event) => {
        event.stopPropagation()
        add(id)
      }}
    >
      +
    </button>
  )
}

function Rungs({ id }: { id: string }) {
  const rungs = useRungs((s) => s.rungs)
  const { modes } = useSource()
  const lines = useMemo(() => linesOf(rungs, id, modes), [rungs, id, modes])
  if (!lines.length) return null
  return (
    <div className="rungs">
      {lines.map((line) => (
        <div key={line.mode} className={`rung ${line.mode}`} title={line.out === null ? undefined : line.title}>
          <b>{words.modeShort[line.mode]}</b>
          {line.out === null ? (
            <span className="none">{words.ladder.notRun}</span>
          ) : (
            <>
              <span className="num">{line.out}</span>
              <span className={`num in told ${line.tone}`}>{line.text}</span>
            </>
          )}
        </div>
      ))}
    </div>
  )
}

export const LoopCard = memo(function LoopCard({ id, selected }: NodeProps<Card>) {
  const { node, state, wrong, shapes } = useNode(id)
  const Glyph = glyph('for-each', 'control')
  return (
    <div
      className={`loop ${selected ? 'chosen' : ''} ${state?.status ?? ''} ${wrong ? 'wrong' : ''} ${shapes ? `shapes-${shapes}` : ''}`}
    >
      <Handle type="target" position={Position.Top} />
      <header>
        <i className="glyph" aria-hidden>
          <Glyph size={17} />
        </i>
        <div>
          <strong dir="auto">{node?.titleOverride || readable(id)}</strong>
          <span>{about(state, words.editor.perItem)}</span>
        </div>
        {wrong > 0 ? (
          <Badge tone="bad">{words.editor.problems(wrong)}</Badge>
        ) : (
          state && <NodeStatus status={state.status} />
        )}
      </header>
      <Handle type="source" position={Position.Bottom} />
    </div>
  )
})
