/** The steps of a workflow as a list: with what became of each in the run that is shown. */
import { memo } from 'react'
import type { Spec } from '../api/queries'
import { useSummary } from '../inspector/units'
import { readable } from '../model/amounts'
import { glyph } from '../model/glyphs'
import { branchName, type Flow, outline, type Step } from '../model/graph'
import { messageOf, StepBadge } from '../parts/Badges'
import { words } from '../words'
import { useRunStore } from './store'

type Props = {
  flow: Flow
  catalog: Record<string, Spec>
  selected: string | null
  select: (id: string) => void
  problems?: Record<string, number>
}

export function Steps({ flow, catalog, selected, select, problems }: Props) {
  return (
    <ol className="steps" aria-label={words.runs.steps}>
      {outline(flow).map((step) => (
        <li key={step.id} data-depth={Math.min(step.depth, 4)}>
          <StepButton
            step={step}
            flow={flow}
            spec={catalog[flow.nodes[step.id]?.type ?? '']}
            isSelected={selected === step.id}
            select={select}
            problems={problems?.[step.id] ?? 0}
          />
        </li>
      ))}
    </ol>
  )
}

type OneProps = {
  step: Step
  flow: Flow
  spec?: Spec
  isSelected: boolean
  select: (id: string) => void
  problems: number
}

const StepButton = memo(function StepButton({ step, flow, spec, isSelected, select, problems }: OneProps) {
  const state = useRunStore((s) => s.nodes[step.id])
  const node = flow.nodes[step.id]
  const kind = spec?.effect ?? 'trigger'
  const Glyph = glyph(node?.type ?? '', kind)
  const summary = useSummary(node)
  const about = [summary ?? spec?.name ?? node?.type, step.branch && branchName(step.branch), messageOf(state?.message)]
    .filter(Boolean)
    .join(' · ')
  return (
    <button
      type="button"
      className={`step ${kind} ${state?.status ?? ''} ${problems ? 'wrong' : ''}`}
      aria-current={isSelected || undefined}
      onClick={() => select(step.id)}
    >
      <i className="glyph" aria-hidden>
        <Glyph size={17} stroke={1.8} />
      </i>
      <span className="what">
        <strong dir="auto">{node?.titleOverride || readable(step.id)}</strong>
        <small>{about}</small>
      </span>
      {state?.items && <small className="quiet">{words.step.itemsDone(state.items.done, state.items.all)}</small>}
      {state && <StepBadge state={state} type={node?.type ?? ''} />}
    </button>
  )
})
