/** Two versions of a workflow on one canvas: what came, what went, and what changed, money first. */

import { NativeSelect } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useEffect, useMemo, useState } from 'react'
import { Link, useSearchParams } from 'wouter'
import { create } from 'zustand'
import { get, type Json, type Workflow } from '../api/client'
import { useWorkflow } from '../api/queries'
import { Canvas } from '../canvas/Later'
import type { Shown, Source } from '../canvas/source'
import type { Positions } from '../editor/merging'
import { readable } from '../model/amounts'
import type { Flow } from '../model/graph'
import { Badge } from '../parts/Badges'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Loading } from '../parts/Section'
import { Empty } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { versions as said } from '../words.versions'
import { type Difference, differencesOf, TONE, union } from './changes'
import { FieldChanges } from './FieldChanges'
import { useDifferences } from './store'
import { Timeline } from './Timeline'
import '../style/versions.css'

const useVersion = (id: string, number: number) =>
  useQuery({
    queryKey: ['version', id, number],
    queryFn: () => get('/v1/workflows/{id}/versions/{number}', { path: { id, number } }),
    enabled: number > 0,
  })

export default function Versions({ id }: { id: string }) {
  const workflow = useWorkflow(id)
  if (workflow.error && !workflow.data)
    return <Missing of="workflows" error={workflow.error} retry={() => workflow.refetch()} />
  if (!workflow.data) return <Loading />
  return <Comparison key={id} workflow={workflow.data} />
}

function Comparison({ workflow }: { workflow: Workflow }) {
  const [search, setSearch] = useSearchParams()
  const to = Number(search.get('to') ?? workflow.version)
  const from = Number(search.get('from') ?? fromOf(workflow, to))
  const [before, after] = [useVersion(workflow.id, from), useVersion(workflow.id, to)]
  const diff = useQuery({
    queryKey: ['diff', workflow.id, from, to],
    queryFn: () =>
      get('/v1/workflows/{id}/versions/{number}/diff', {
        path: { id: workflow.id, number: to },
        query: { against: from },
      }),
    enabled: from > 0,
  })
  const differences = useMemo(() => (diff.data ? differencesOf(diff.data as never) : []), [diff.data])
  const numbers = Array.from({ length: workflow.version }, (_, i) => String(workflow.version - i)).slice(0, MOST)
  const choose = (name: 'from' | 'to', value: string) =>
    setSearch(
      name === 'to' && Number(value) <= from
        ? { to: value } // compared with the one before it
        : { from: String(from), to: String(to), [name]: value },
      { replace: true },
    )
  return (
    <Page
      title={said.title(workflow.name)}
      className="versions"
      actions={<Link href={`/workflows/${workflow.id}`}>{said.back}</Link>}
      filters={
        <>
          <NativeSelect
            label={said.from}
            data={numbers}
            value={String(from)}
            onChange={(e) => choose('from', e.currentTarget.value)}
          />
          <NativeSelect
            label={said.to}
            data={numbers}
            value={String(to)}
            onChange={(e) => choose('to', e.currentTarget.value)}
          />
        </>
      }
    >
      <Trouble error={diff.error ?? before.error ?? after.error} />
      <div className="timed">
        <Timeline workflow={workflow} from={from} to={to} choose={(one) => choose('to', String(one))} />
        {from === 0 ? (
          <Empty title={said.only} />
        ) : (
          before.data &&
          after.data &&
          diff.data && (
            <Picture
              key={`${from} ${to}`}
              flow={union(before.data.definition as Flow, after.data.definition as Flow)}
              before={before.data.definition as Flow}
              workflow={workflow}
              differences={differences}
            />
          )
        )}
      </div>
    </Page>
  )
}

const MOST = 500
/** What runs now, where that is another version; else the version before. */
const fromOf = (workflow: Workflow, to: number) =>
  workflow.liveVersion && workflow.liveVersion !== to ? workflow.liveVersion : to - 1

type PictureProps = { flow: Flow; before: Flow; workflow: Workflow; differences: Difference[] }

function Picture({ flow, before, workflow, differences }: PictureProps) {
  const [selected, setSelected] = useState<string | null>(null)
  const positions = ((workflow.uiMetadata as Json | null)?.nodes ?? {}) as Positions
  // biome-ignore lint/correctness/useExhaustiveDependencies: a picture is made anew for each pair of versions
  const store = useMemo(() => create<Shown>(() => ({ id: workflow.id, flow, positions, selected: [] })), [])
  const source: Source = useMemo(
    () => ({ store, select: (ids) => setSelected(ids[0] ?? null), isFixed: true, modes: [] }),
    [store],
  )
  useEffect(() => store.setState({ selected: selected ? [selected] : [] }), [store, selected])
  useEffect(() => {
    useDifferences.setState({ byNode: Object.fromEntries(differences.map((one) => [one.id, one])) })
    return () => useDifferences.setState({ byNode: {} })
  }, [differences])
  return (
    <div className="comparison">
      <div className="stage">
        <Canvas source={source} />
      </div>
      <ol className="differences" aria-label={said.list}>
        {!differences.length && <li className="quiet">{said.same}</li>}
        {differences.map((one) => (
          <li key={one.id} className={one.kind} aria-current={selected === one.id || undefined}>
            <button type="button" className="link" onClick={() => setSelected(one.id)}>
              <span dir="auto">{flow.nodes[one.id]?.titleOverride || readable(one.id)}</span>
            </button>{' '}
            <Badge tone={TONE[one.kind]}>{said.kinds[one.kind]}</Badge>
            <FieldChanges of={one} before={before.nodes[one.id]} after={flow.nodes[one.id]} />
          </li>
        ))}
      </ol>
    </div>
  )
}
