/** Where nodes are and how their ways run: computed by ELK in a worker, loops as boxes around what they repeat. */
import type { Edge, Node, NodeHandle, Position } from '@xyflow/react'
import type { ElkExtendedEdge, ElkNode } from 'elkjs/lib/elk-api'
import type { Positions } from '../editor/merging'
import { branchName, type Flow, loopsOf } from '../model/graph'
import { engine } from './engine'
import { OPTIONS, SPACING } from './options'

export type Point = { x: number; y: number }
export type Card = Node<{ id: string }, 'card' | 'loop' | 'note' | 'together'>
export type Way = Edge<{ points?: Point[]; at?: Record<string, Point> }>

const WIDTH = 300
const HEIGHT = 58
const HANDLE = 8
// spacing is not inherited by containers
const IN_LOOP = { ...SPACING, 'elk.padding': '[top=72,left=24,bottom=24,right=24]' }

export async function layout(flow: Flow, heightOf: (id: string) => number, moved: Positions) {
  const loops = loopsOf(flow)
  const ids = Object.keys(flow.nodes)
  const inside: Record<string, string[]> = {}
  for (const id of ids) {
    const loop = loops[id] ?? ''
    inside[loop] ??= []
    inside[loop]?.push(id)
  }
  const box = (id: string): ElkNode =>
    inside[id]?.length
      ? { id, children: inside[id].map(box), layoutOptions: IN_LOOP }
      : { id, width: WIDTH, height: heightOf(id) }
  const ways = waysOf(flow)
  const done = await (await engine()).layout({
    id: '@',
    children: (inside[''] ?? []).map(box),
    edges: ways.map((way) => ({ id: way.id, sources: [way.source], targets: [way.target] })),
    layoutOptions: OPTIONS,
  })
  const cards: Card[] = []
  const at: Record<string, Point> = {}
  const place = (nodes: ElkNode[], parentId?: string) => {
    for (const node of nodes) {
      const isLoop = Boolean(node.children?.length)
      const own = { x: node.x ?? 0, y: node.y ?? 0 }
      at[node.id] = own
      const size = { width: Math.ceil(node.width ?? WIDTH), height: Math.ceil(node.height ?? HEIGHT) }
      cards.push({
        id: node.id,
        type: isLoop ? 'loop' : 'card',
        position: moved[node.id] ?? own,
        parentId,
        ...size,
        measured: size,
        handles: handlesOf(size),
        data: { id: node.id },
      })
      if (isLoop) place(node.children ?? [], node.id)
    }
  }
  place(done.children ?? [])
  for (const edge of (done.edges ?? []) as ElkExtendedEdge[]) {
    const [section] = edge.sections ?? []
    const way = ways.find((one) => one.id === edge.id)
    if (section && way && !moved[way.source] && !moved[way.target])
      way.data = { points: [section.startPoint, ...(section.bendPoints ?? []), section.endPoint] }
  }
  return { cards, ways }
}

/** Where ways begin and end on a card. With its size known ahead, nobody measures a thousand cards, and one that is far
 * away is drawn without its handles. */
function handlesOf({ width, height }: { width: number; height: number }): NodeHandle[] {
  const x = (width - HANDLE) / 2
  const size = { width: HANDLE, height: HANDLE }
  return [
    { type: 'target', position: 'top' as Position, x, y: -HANDLE / 2, ...size },
    { type: 'source', position: 'bottom' as Position, x, y: height - HANDLE / 2, ...size },
  ]
}

function waysOf(flow: Flow): Way[] {
  const ways: Way[] = []
  for (const [id, node] of Object.entries(flow.nodes))
    for (const child of node.children ?? []) {
      if (!flow.nodes[child]) continue
      const branch = flow.nodes[child].branch
      ways.push({
        id: `${id}>${child}`,
        source: id,
        target: child,
        type: 'way',
        label: branch ? branchName(branch) : undefined,
        data: {},
      })
    }
  return ways
}
