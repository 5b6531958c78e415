/** What the assistant has changed in a workflow, on the canvas: taken whole or in parts, or left. */

import { Button, Checkbox } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useEffect, useMemo, useState } from 'react'
import { Link } from 'wouter'
import { create } from 'zustand'
import { get, type Json, put, type Workflow } from '../api/client'
import { queries, refresh, useWorkflow } from '../api/queries'
import { Canvas } from '../canvas/Later'
import type { Shown, Source } from '../canvas/source'
import { type Difference, differencesOf, TONE, union } from '../diff/changes'
import { FieldChanges } from '../diff/FieldChanges'
import { useDifferences } from '../diff/store'
import type { Positions } from '../editor/merging'
import { readable } from '../model/amounts'
import type { Flow } from '../model/graph'
import { Badge } from '../parts/Badges'
import { Loading, Section } from '../parts/Section'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'
import { versions } from '../words.versions'
import { merged } from './merging'
import type { Saved } from './parts'
import '../style/versions.css'
import '../style/approval.css'

async function readChange({ workflowId: id, from, to }: Saved) {
  const version = async (number: number) => {
    const { definition } = await get('/v1/workflows/{id}/versions/{number}', { path: { id, number } })
    return definition as unknown as Flow
  }
  const path = { id, number: to }
  const [before, after, diff] = await Promise.all([
    version(from),
    version(to),
    get('/v1/workflows/{id}/versions/{number}/diff', { path, query: { against: from } }),
  ])
  return { before, after, differences: differencesOf(diff as never) }
}

export default function Change({ saved }: { saved: Saved }) {
  const workflow = useWorkflow(saved.workflowId)
  const found = useQuery({ queryKey: ['change', saved], queryFn: () => readChange(saved) })
  if (workflow.error ?? found.error) return <Trouble error={workflow.error ?? found.error} />
  if (!workflow.data || !found.data) return <Loading />
  return (
    <Section
      title={said.change(workflow.data.name, saved.to)}
      about={said.changeAbout}
      actions={<Link href={`/workflows/${saved.workflowId}`}>{said.openWorkflow}</Link>}
    >
      <Picture workflow={workflow.data} saved={saved} {...found.data} />
    </Section>
  )
}

type Props = { workflow: Workflow; saved: Saved; before: Flow; after: Flow; differences: Difference[] }

function Picture({ workflow, saved, before, after, differences }: Props) {
  const [chosen, setChosen] = useState(() => new Set(differences.map((one) => one.id)))
  const [selected, setSelected] = useState<string | null>(null)
  const flow = useMemo(() => union(before, after), [before, after])
  const store = useMemo(() => {
    const positions = ((workflow.uiMetadata as Json | null)?.nodes ?? {}) as Positions
    return create<Shown>(() => ({ id: workflow.id, flow, positions, selected: [] }))
  }, [workflow.id, workflow.uiMetadata, flow])
  const source: Source = useMemo(
    () => ({ store, select: (ids) => setSelected(ids[0] ?? null), isFixed: true, modes: [] }),
    [store],
  )
  useEffect(() => store.setState({ selected: selected ? [selected] : [] }), [store, selected])
  useEffect(() => {
    useDifferences.setState({ byNode: Object.fromEntries(differences.map((one) => [one.id, one])) })
    return () => useDifferences.setState({ byNode: {} })
  }, [differences])
  const toggle = (id: string) =>
    setChosen((old) => {
      const fresh = new Set(old)
      if (!fresh.delete(id)) fresh.add(id)
      return fresh
    })
  if (!differences.length) return <p className="quiet pad">{said.same}</p>
  return (
    <>
      <div className="comparison small">
        <div className="stage">
          <Canvas source={source} />
        </div>
        <ol className="differences" aria-label={said.differences} tabIndex={0}>
          {differences.map((one) => (
            <li key={one.id} className={one.kind} aria-current={selected === one.id || undefined}>
              <Checkbox
                checked={chosen.has(one.id)}
                onChange={() => toggle(one.id)}
                aria-label={said.takeOne(one.id)}
                label={<span dir="auto">{flow.nodes[one.id]?.titleOverride || readable(one.id)}</span>}
              />
              <Badge tone={TONE[one.kind]}>{versions.kinds[one.kind]}</Badge>
              <FieldChanges of={one} before={before.nodes[one.id]} after={flow.nodes[one.id]} />
            </li>
          ))}
        </ol>
      </div>
      <Answers
        workflow={workflow}
        saved={saved}
        chosen={chosen.size}
        all={differences.length}
        make={() => merged(before, after, differences, chosen)}
      />
    </>
  )
}

type AnswersProps = { workflow: Workflow; saved: Saved; chosen: number; all: number; make: () => Flow }

/** What was saved is a draft already: to take it whole changes nothing more, anything else saves another version. */
function Answers({ workflow, saved, chosen, all, make }: AnswersProps) {
  const [answer, setAnswer] = useState('')
  const [error, setError] = useState<unknown>(null)
  const [isBusy, setIsBusy] = useState(false)
  const store = async (definition: Flow, said: string) => {
    setIsBusy(true)
    setError(null)
    try {
      const body = { definition, expectedCurrentVersion: saved.to }
      const path = { path: { id: workflow.id } }
      queries.setQueryData(['workflow', workflow.id], await put('/v1/workflows/{id}', path, body as never))
      setAnswer(said)
      await refresh('/v1/workflows', 'workflow')
    } catch (problem) {
      setError(problem)
    }
    setIsBusy(false)
  }
  const leave = async () => {
    const path = { id: workflow.id, number: saved.from }
    const { definition } = await get('/v1/workflows/{id}/versions/{number}', { path })
    await store(definition as unknown as Flow, said.left)
  }
  if (answer || workflow.version !== saved.to)
    return (
      <p className="foot" role="status">
        {answer || said.newer}
      </p>
    )
  return (
    <div className="deciding">
      <Trouble error={error} />
      <div className="twoanswers">
        <Button variant="default" disabled={isBusy} onClick={() => void leave().catch(setError)}>
          {said.leave}
        </Button>
        <Button
          loading={isBusy}
          disabled={chosen === 0}
          onClick={() => (chosen === all ? setAnswer(said.taken) : void store(make(), said.taken))}
        >
          {said.take(chosen, all)}
        </Button>
      </div>
    </div>
  )
}
