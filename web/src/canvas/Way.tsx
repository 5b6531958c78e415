/** A way from node to node: along the route that ELK found, with round corners. */
import { BaseEdge, type EdgeProps, getSmoothStepPath } from '@xyflow/react'
import type { Point, Way } from './layout'

const ROUND = 8
const LABEL_ABOVE = 12

export function WayLine({ sourceX, sourceY, targetX, targetY, data, label }: EdgeProps<Way>) {
  const points = data?.points
  const last = points?.at(-1)
  const path = points ? rounded(points) : getSmoothStepPath({ sourceX, sourceY, targetX, targetY })[0]
  return (
    <BaseEdge
      path={path}
      label={label}
      labelX={last?.x ?? targetX}
      labelY={(last?.y ?? targetY) - LABEL_ABOVE}
      labelBgPadding={[5, 2]}
      labelBgBorderRadius={6}
    />
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
