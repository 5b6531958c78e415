/** A long list of rows of one height, of which only those in sight are drawn. */
import { useVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useEffect, useRef } from 'react'

type Props<T> = {
  rows: readonly T[]
  height: number
  label: string
  className: string
  keyOf: (row: T) => string | number
  classOf?: (row: T, i: number) => string
  /** The row that is looked at; it is brought into sight when it changes. */
  at?: number | null
  children: (row: T, i: number) => ReactNode
}
const BEYOND = 12

export function Windowed<T>({ rows, height, label, className, keyOf, classOf, at, children }: Props<T>) {
  const scroller = useRef<HTMLDivElement>(null)
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: BEYOND,
  })
  useEffect(() => {
    if (at !== null && at !== undefined) virtual.scrollToIndex(at)
  }, [at, virtual])
  return (
    <div className={`windowed ${className}`} ref={scroller}>
      <ol aria-label={label} ref={(el) => el?.style.setProperty('height', `${virtual.getTotalSize()}px`)}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const row = rows[index] as T
          return (
            <li
              key={keyOf(row)}
              className={classOf?.(row, index)}
              aria-setsize={rows.length}
              aria-posinset={index + 1}
              ref={(el) => place(el, start, height)}
            >
              {children(row, index)}
            </li>
          )
        })}
      </ol>
    </div>
  )
}

function place(element: HTMLElement | null, top: number, height: number) {
  element?.style.setProperty('transform', `translateY(${top}px)`)
  element?.style.setProperty('height', `${height}px`)
}
