/** A way from node to node: along the route that ELK found, with round corners. */
import { BaseEdge, EdgeLabelRenderer, type EdgeProps, getSmoothStepPath } from '@xyflow/react'
import { readable } from '../model/amounts'
import { words } from '../words'
import { useCanvasActs } from './acts'
import type { Point, Way } from './layout'
import { useDrawn, useShown } from './source'

const ROUND = 8
const LABEL_ABOVE = 12
/** A way straight down is too short for its name and the button on it, one above the other. */
const BESIDE = 18
const LETTER = 3.5

export function WayLine({ source, target, sourceX, sourceY, targetX, targetY, data, label }: EdgeProps<Way>) {
  const points = data?.points
  const last = points?.at(-1)
  const isStraight = points?.length === 2
  const { isFar } = useDrawn()
  const path = points ? rounded(points) : getSmoothStepPath({ sourceX, sourceY, targetX, targetY })[0]
  const first = points?.[0] ?? { x: sourceX, y: sourceY }
  const second = points?.[1] ?? { x: (sourceX + targetX) / 2, y: (sourceY + targetY) / 2 }
  return (
    <>
      <BaseEdge
        path={path}
        label={label}
        labelX={(last?.x ?? targetX) + (isStraight ? BESIDE + LETTER * String(label ?? '').length : 0)}
        labelY={(last?.y ?? targetY) - LABEL_ABOVE}
        labelBgPadding={[5, 2]}
        labelBgBorderRadius={6}
      />
      {!isFar && (
        <Plus source={source} target={target} at={{ x: (first.x + second.x) / 2, y: (first.y + second.y) / 2 }} />
      )}
    </>
  )
}

/** On the first piece of a way: another step comes there. */
function Plus({ source, target, at }: { source: string; target: string; at: Point }) {
  const add = useCanvasActs((s) => s.add)
  const names = useShown((s) =>
    [source, target].map((id) => s.flow.nodes[id]?.titleOverride || readable(id)).join('\n'),
  )
  if (!add) return null
  const [from = '', to = ''] = names.split('\n')
  return (
    <EdgeLabelRenderer>
      <button
        type="button"
        className="plus nodrag nopan"
        aria-label={words.editor.addBetween(from, to)}
        onClick={() => add(source, target)}
        ref={(el) => el?.style.setProperty('transform', `translate(-50%, -50%) translate(${at.x}px, ${at.y}px)`)}
      >
        +
      </button>
    </EdgeLabelRenderer>
  )
}

function rounded(points: Point[]): string {
  let path = ''
  points.forEach((point, i) => {
    const before = points[i - 1]
    const next = points[i + 1]
    if (!before) path = `M${point.x} ${point.y}`
    else if (!next) path += `L${point.x} ${point.y}`
    else {
      const radius = Math.min(ROUND, distance(before, point) / 2, distance(point, next) / 2)
      const a = towards(point, before, radius)
      const b = towards(point, next, radius)
      path += `L${a.x} ${a.y}Q${point.x} ${point.y} ${b.x} ${b.y}`
    }
  })
  return path
}

const distance = (a: Point, b: Point) => Math.hypot(a.x - b.x, a.y - b.y)
const towards = (from: Point, to: Point, by: number): Point => {
  const all = distance(from, to) || 1
  return { x: from.x + ((to.x - from.x) / all) * by, y: from.y + ((to.y - from.y) / all) * by }
}
