/** The graph: drawn from the document, laid out when its shape changes, coloured by the run. */
import { useComputedColorScheme } from '@mantine/core'
import {
  Background,
  BackgroundVariant,
  type Connection,
  Controls,
  type InternalNode,
  MiniMap,
  type NodeChange,
  ReactFlow,
  ReactFlowProvider,
  useEdgesState,
  useNodesState,
  useReactFlow,
  useStore,
  type Viewport,
} from '@xyflow/react'
import {
  memo,
  type MouseEvent as ReactMouseEvent,
  type RefObject,
  useCallback,
  useDeferredValue,
  useEffect,
  useMemo,
  useRef,
} from 'react'
import { useCatalog } from '../api/queries'
import { edit, mark, move } from '../editor/document'
import { connect, removeNodes } from '../editor/edits'
import type { Positions } from '../editor/merging'
import { linesOf, useRungs } from '../effects/store'
import type { Flow, FlowNode } from '../model/graph'
import { withMark } from '../model/marks'
import { useRunStore } from '../run/store'
import { words } from '../words'
import { useCanvasActs } from './acts'
import { LoopCard, NodeCard } from './Cards'
import { type Card, layout, type Way } from './layout'
import { GroupBox, isStep, NoteCard, withMarks } from './Marks'
import { CanvasSource, Drawn, EDITED, type Shown, type Source, useShown, useSource } from './source'
import { WayLine } from './Way'

const nodeTypes = { card: NodeCard, loop: LoopCard, note: NoteCard, together: GroupBox }
const edgeTypes = { way: WayLine }
const PLAIN = 58
const LINE = 21
const MAP_FROM = 12
const ROOM = '40px'
const BESIDE = '410px'
const BESIDE_PX = 16
/** Below this zoom no letter can be read: cards are drawn as plain boxes, which keeps a large canvas moving. */
const FAR = 0.3

export const Canvas = memo(function Canvas({ source = EDITED }: { source?: Source }) {
  return (
    <CanvasSource value={source}>
      <ReactFlowProvider>
        <Graph />
      </ReactFlowProvider>
    </CanvasSource>
  )
})

/** What the layout depends on, so that typing in a field moves nothing, and draws nothing. */
function useShape() {
  const { modes } = useSource()
  const rungs = useRungs((s) => s.rungs)
  const { read, heightOf } = useMemo(() => {
    const heightOf = (id: string) => {
      const lines = linesOf(rungs, id, modes).length
      return PLAIN + (lines ? lines * LINE + 6 : 0)
    }
    const shapes = new WeakMap<FlowNode, string>()
    const shapeOf = ([id, node]: [string, FlowNode]) => {
      const shape = shapes.get(node) ?? JSON.stringify([id, node.children, node.loopBody, node.branch, heightOf(id)])
      shapes.set(node, shape)
      return shape
    }
    let last: { flow?: Flow; positions?: Positions; key: string } = { key: '' }
    const read = ({ flow, positions }: Shown) => {
      if (flow === last.flow && positions === last.positions) return last.key
      const key = `${Object.entries(flow.nodes).map(shapeOf).join()} ${JSON.stringify(positions)}`
      last = { flow, positions, key }
      return key
    }
    return { read, heightOf }
  }, [rungs, modes])
  return { key: useShown(read), heightOf }
}

/** With one of these held, a click adds to what is chosen. */
const ADDS = ['Meta', 'Control', 'Shift']
const NO_NAME = { hideAttribution: true }

// Each is one function for good: one that is new tells every card and way of the canvas that it changed.
const onConnect = ({ source, target }: Connection) => edit((flow) => connect(flow, source, target))
const onNodesDelete = (gone: Card[]) =>
  edit((flow) =>
    removeNodes(
      flow,
      gone.map((one) => one.id),
    ),
  )
const onEdgesDelete = (gone: Way[]) => edit((flow) => gone.reduce((f, one) => cut(f, one.source, one.target), flow))

/** What is as it was is drawn by nobody anew. */
const unlessSame = <T,>(old: T[], next: T[]) =>
  next.length === old.length && next.every((one, i) => one === old[i]) ? old : next

function Graph() {
  const { key, heightOf } = useShape()
  const { store, select, isFixed } = useSource()
  const selected = useShown((s) => s.selected)
  const marks = useShown((s) => s.marks)
  const [nodes, setNodes, onNodes] = useNodesState<Card>([])
  const [ways, setWays, onWays] = useEdgesState<Way>([])
  const canvas = useReactFlow()
  const scheme = useComputedColorScheme('light')
  // another moment later is soon enough for the letters, so that the wheel does not wait for them
  const isFar = useDeferredValue(useStore((s) => s.transform[2] < FAR))
  const catalog = useCatalog().data
  const drawn = useMemo(() => ({ isFar, catalog }), [isFar, catalog])
  const frame = useRef<HTMLDivElement>(null)
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for all that the layout reads
  useEffect(() => {
    let isOver = false
    const { flow, positions } = store.getState()
    void layout(flow, heightOf, positions).then((done) => {
      if (isOver) return
      const chosen = new Set(store.getState().selected)
      const cards = done.cards.map((card) => ({ ...card, selected: chosen.has(card.id) }))
      setNodes(withMarks(cards, store.getState().marks, isFixed))
      setWays(done.ways.map(coloured))
    })
    return () => {
      isOver = true
    }
  }, [key])
  useEffect(() => {
    setNodes((old) => (old.length ? unlessSame(old, withMarks(old, marks, isFixed)) : old))
  }, [marks, isFixed, setNodes])
  useWhole(nodes.length > 0, frame)
  useEffect(() => {
    const chosen = new Set(selected)
    const isChosen = (one: Card) => chosen.has(one.id)
    setNodes((old) =>
      unlessSame(
        old,
        old.map((one) => (Boolean(one.selected) === isChosen(one) ? one : { ...one, selected: isChosen(one) })),
      ),
    )
  }, [selected, setNodes])
  useRunColours(setWays)
  const onChange = useCallback(
    (changes: NodeChange<Card>[]) => {
      onNodes(changes)
      const moved = changes.filter((one) => one.type === 'position' && one.dragging === false && one.position)
      if (isFixed || !moved.length) return
      const positions = { ...store.getState().positions }
      let steps = 0
      for (const one of moved) {
        if (one.type !== 'position' || !one.position) continue
        if (one.id.startsWith('@note ')) moveNote(one.id.slice(6), one.position)
        else {
          positions[one.id] = one.position
          steps++
        }
      }
      if (steps) move(positions)
    },
    [onNodes, store, isFixed],
  )
  const onSelect = useCallback(
    ({ nodes }: { nodes: Card[] }) => {
      const isComing = store.getState().selected.some((one) => !canvas.getNode(one))
      if (!isComing) select(nodes.filter(isStep).map((one) => one.id))
    },
    [canvas, store, select],
  )
  const onMove = useCallback(
    (event: MouseEvent | TouchEvent | null) => event?.type === 'mousemove' && frame.current?.classList.add('panned'),
    [],
  )
  const onMoveEnd = useCallback(() => frame.current?.classList.remove('panned'), [])
  const onMenu = useCallback(
    (event: ReactMouseEvent, node: Card) => {
      const { menu } = useCanvasActs.getState()
      if (isFixed || !menu || !isStep(node)) return
      event.preventDefault()
      menu(node.id, event.clientX, event.clientY)
    },
    [isFixed],
  )
  return (
    <Drawn value={drawn}>
      <ReactFlow
        ref={frame}
        panActivationKeyCode={null}
        aria-label={words.editor.canvas}
        className={isFar ? 'far' : undefined}
        nodes={nodes}
        edges={ways}
        nodeTypes={nodeTypes}
        edgeTypes={edgeTypes}
        onNodesChange={onChange}
        onEdgesChange={onWays}
        onSelectionChange={onSelect}
        onMove={onMove}
        onMoveEnd={onMoveEnd}
        onConnect={onConnect}
        onNodesDelete={onNodesDelete}
        onEdgesDelete={onEdgesDelete}
        onNodeContextMenu={onMenu}
        deleteKeyCode={null}
        colorMode={scheme}
        selectionKeyCode={null}
        multiSelectionKeyCode={ADDS}
        minZoom={0.1}
        onlyRenderVisibleElements
        nodesDraggable={!isFixed}
        nodesConnectable={!isFixed}
        proOptions={NO_NAME}
      >
        {!isFar && <Background variant={BackgroundVariant.Dots} gap={22} size={1.4} />}
        <Controls showInteractive={false} position="bottom-left" />
        {nodes.filter(isStep).length > MAP_FROM && (
          <MiniMap pannable zoomable position="bottom-right" ariaLabel={words.editor.map} />
        )}
      </ReactFlow>
    </Drawn>
  )
}

/** A workflow is looked at as a whole; again when the room for it changes, until somebody looks elsewhere. */
function useWhole(isDrawn: boolean, frame: RefObject<HTMLDivElement | null>) {
  const { store } = useSource()
  const id = useShown((s) => s.id)
  const height = useStore((s) => s.height)
  const canvas = useReactFlow()
  const shown = useRef<{ id: string | null; at: string } | null>(null)
  useEffect(() => {
    const at = JSON.stringify(canvas.getViewport())
    if (!isDrawn || !height || (shown.current?.id === id && shown.current.at !== at)) return
    const right = store.getState().selected.length ? BESIDE : ROOM // the inspector covers nothing
    const padding = { top: ROOM, bottom: ROOM, left: ROOM, right } as const
    const wanted = requestAnimationFrame(async () => {
      await canvas.fitView({ padding, maxZoom: 1, minZoom: 0.1 })
      shown.current = { id, at: JSON.stringify(canvas.getViewport()) }
    })
    return () => cancelAnimationFrame(wanted)
  }, [isDrawn, id, height, canvas, store])
  const one = useShown((s) => (s.selected.length === 1 ? s.selected[0] : undefined))
  useEffect(() => {
    let wanted = 0
    const uncover = async () => {
      const before = canvas.getViewport()
      const hidden = one ? hiddenWidth(canvas.getInternalNode(one), frame.current, before) : 0
      if (hidden <= 0) return
      await canvas.setViewport({ ...before, x: before.x - hidden })
      if (shown.current?.at === JSON.stringify(before)) shown.current.at = JSON.stringify(canvas.getViewport())
    }
    const soon = () => {
      cancelAnimationFrame(wanted)
      wanted = requestAnimationFrame(uncover)
    }
    soon()
    // the settings grow when values are shown beside them
    const grown = new ResizeObserver(soon)
    const settings = frame.current?.closest('.stage')?.querySelector('.inspector')
    if (one && settings) grown.observe(settings)
    return () => {
      cancelAnimationFrame(wanted)
      grown.disconnect()
    }
  }, [one, canvas, frame])
}

/** How much of a step is behind its settings, in pixels with a little room; a step that is dragged stays in the hand. */
function hiddenWidth(card: InternalNode | undefined, frame: HTMLElement | null, { x, zoom }: Viewport): number {
  const settings = frame?.closest('.stage')?.querySelector('.inspector')
  if (!card || card.dragging || !frame || !settings) return 0
  const right = x + (card.internals.positionAbsolute.x + (card.measured.width ?? 0)) * zoom
  return right + BESIDE_PX - (settings.getBoundingClientRect().left - frame.getBoundingClientRect().left)
}

const moveNote = (id: string, at: { x: number; y: number }) =>
  mark((marks) => (marks.notes[id] ? withMark(marks, 'notes', id, { ...marks.notes[id], ...at }) : marks))

const cut = (flow: Parameters<typeof connect>[0], from: string, to: string) => {
  const node = flow.nodes[from]
  return node
    ? { ...flow, nodes: { ...flow.nodes, [from]: { ...node, children: node.children?.filter((c) => c !== to) } } }
    : flow
}

/** Ways that were taken, are being taken, or were not. */
function useRunColours(setWays: (change: (old: Way[]) => Way[]) => void) {
  const taken = useRunStore((s) =>
    Object.entries(s.nodes)
      .map(([id, state]) => `${id}:${state.status}`)
      .join(),
  )
  // biome-ignore lint/correctness/useExhaustiveDependencies: `taken` stands for the states
  useEffect(() => {
    setWays((old) => unlessSame(old, old.map(coloured)))
  }, [taken, setWays])
}

function coloured(way: Way): Way {
  const to = useRunStore.getState().nodes[way.target]?.status
  const className = to === 'running' ? 'busy' : to === 'skipped' ? 'off' : to ? 'on' : ''
  return way.className === className ? way : { ...way, className }
}
