/** The version that a run was of, as a graph that nobody changes; a step's card shows what became of it. */
import { useEffect, useMemo } from 'react'
import { create } from 'zustand'
import type { Json, Run } from '../api/client'
import { useEffects, useWorkflow } from '../api/queries'
import { Canvas } from '../canvas/Canvas'
import type { Shown, Source } from '../canvas/source'
import type { Positions } from '../editor/merging'
import { useRungs } from '../effects/store'
import type { Flow } from '../model/graph'
import { marksIn } from '../model/marks'

type Props = { run: Run; flow: Flow; selected: string | null; select: (id: string | null) => void }

export default function RunCanvas({ run, flow, selected, select }: Props) {
  const effects = useEffects(run.id)
  const workflow = useWorkflow(run.workflowId)
  const ui = workflow.data?.uiMetadata as Json | null | undefined
  const positions = (workflow.data?.uiMetadata as Json | null | undefined)?.nodes as Positions | undefined
  // biome-ignore lint/correctness/useExhaustiveDependencies: the definition of a run never changes
  const store = useMemo(
    () => create<Shown>(() => ({ id: run.id, flow, positions: {}, selected: selected ? [selected] : [] })),
    [run.id],
  )
  useEffect(() => {
    store.setState({ positions: positions ?? {}, marks: marksIn(ui) })
  }, [store, positions, ui])
  useEffect(() => {
    store.setState({ selected: selected ? [selected] : [] })
  }, [store, selected])
  useEffect(() => {
    useRungs.setState({ rungs: { [run.mode]: effects.data } })
  }, [run.mode, effects.data])
  useEffect(() => () => useRungs.setState({ rungs: {} }), [])
  const source: Source = useMemo(
    () => ({ store, select: (ids) => select(ids[0] ?? null), isFixed: true, modes: [run.mode] }),
    [store, select, run.mode],
  )
  return <Canvas source={source} />
}
