/** The list of every page: columns, rows that are links, page after page as one scrolls. */
import { Button } from '@mantine/core'
import { useVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useEffect, useRef, useState } from 'react'
import { Link } from 'wouter'
import { words } from '../words'
import { Bones } from './Bones'
import { Trouble } from './Trouble'

export type Column<T> = {
  title: string
  cell: (row: T) => ReactNode
  /** As in `grid-template-columns`; the first column is the row's name and takes what is left. */
  width?: string
  /** Its width below 760 px. */
  narrow?: string
  align?: 'end'
  /** Left out below 760 px. */
  wide?: boolean
}
type Found<T> = {
  rows: T[]
  isPending: boolean
  error: unknown
  hasNextPage: boolean
  isFetchingNextPage: boolean
  fetchNextPage: () => unknown
  refetch: () => unknown
}
type Props<T> = {
  label: string
  columns: Column<T>[]
  found: Found<T>
  keyOf: (row: T) => string
  href?: (row: T) => string
  empty: ReactNode
  /** The next page costs a search, so a person asks for it; what they press says so. */
  byHand?: string | false
}

export function Table<T>({ label, columns, found, keyOf, href, empty, byHand }: Props<T>) {
  const end = useRef<HTMLDivElement>(null)
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = found
  useEffect(() => {
    if (!hasNextPage || isFetchingNextPage || !end.current || byHand) return
    const watch = new IntersectionObserver(([seen]) => seen?.isIntersecting && fetchNextPage(), { rootMargin: '400px' })
    watch.observe(end.current)
    return () => watch.disconnect()
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, byHand])
  if (found.error && !found.rows.length) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (found.isPending) return <Bones />
  if (!found.rows.length) return <>{empty}</>
  const template = columns.map((column, i) => column.width ?? (i ? 'auto' : 'minmax(0, 1fr)')).join(' ')
  const narrow = columns
    .filter((c) => !c.wide)
    .map((c, i) => c.narrow ?? c.width ?? (i ? 'auto' : 'minmax(0, 1fr)'))
    .join(' ')
  const look = (column: Column<T>) => `${column.align ?? ''} ${column.wide ? 'wide' : ''}`
  return (
    <div className="table" ref={(el) => setTemplates(el, template, narrow)}>
      <div role="table" aria-label={label} aria-rowcount={found.hasNextPage ? -1 : found.rows.length + 1}>
        <div role="row" className="row head">
          {columns.map((column) => (
            <span role="columnheader" key={column.title} className={look(column)}>
              {column.title}
            </span>
          ))}
        </div>
        <Rows rows={found.rows} keyOf={keyOf}>
          {(row) =>
            columns.map((column, i) => (
              <span role="cell" key={column.title} className={look(column)}>
                {i === 0 && href ? (
                  <Link href={href(row)} className="rowlink">
                    {column.cell(row)}
                  </Link>
                ) : (
                  column.cell(row)
                )}
              </span>
            ))
          }
        </Rows>
      </div>
      {hasNextPage && (
        <div ref={end} className="more">
          <Button variant="subtle" color="gray" loading={isFetchingNextPage} onClick={() => fetchNextPage()}>
            {byHand || words.state.moreRows}
          </Button>
        </div>
      )}
    </div>
  )
}

type RowsProps<T> = { rows: T[]; keyOf: (row: T) => string; children: (row: T) => ReactNode }
const ALL_UP_TO = 100
const ROW_PX = 57
const BEYOND = 20
const AT_FIRST = 300

/** The rows; of many only those in sight, between two gaps that are as high as the others. */
function Rows<T>({ rows, keyOf, children }: RowsProps<T>) {
  const [top, setTop] = useState<HTMLElement | null>(null)
  const isLong = rows.length > ALL_UP_TO
  const scroller = () => top?.closest<HTMLElement>('.content') ?? null
  const virtual = useVirtualizer({
    count: rows.length,
    enabled: isLong,
    getScrollElement: scroller,
    // it scrolls there as soon as a list has become long; without this, to its top
    initialOffset: () => scroller()?.scrollTop ?? 0,
    estimateSize: () => ROW_PX,
    scrollMargin: top?.offsetTop ?? 0,
    overscan: BEYOND,
  })
  // A list that has just become long is drawn once before its place in the page is known. If it were empty then, the page
  // would shrink, and the reader be thrown back to its top.
  const items = isLong ? virtual.getVirtualItems() : []
  const last = items.at(-1)
  const first = items[0]?.index ?? 0
  const shown = last ? rows.slice(first, last.index + 1) : rows.slice(0, isLong ? AT_FIRST : undefined)
  const margin = virtual.options.scrollMargin
  const before = items[0] ? items[0].start - margin : 0
  const after = last ? virtual.getTotalSize() - (last.end - margin) : (rows.length - shown.length) * ROW_PX
  return (
    <>
      <div role="presentation" ref={(el) => open(el, setTop, before)} />
      {shown.map((row, i) => (
        <div
          role="row"
          className="row"
          key={keyOf(row)}
          data-index={first + i}
          aria-rowindex={isLong ? first + i + 2 : undefined}
          ref={isLong ? virtual.measureElement : undefined}
        >
          {children(row)}
        </div>
      ))}
      {after > 0 && <div role="presentation" ref={(el) => el?.style.setProperty('height', `${after}px`)} />}
    </>
  )
}

function open(element: HTMLElement | null, keep: (element: HTMLElement) => void, px: number) {
  if (!element) return
  element.style.setProperty('height', `${px}px`)
  keep(element)
}

function setTemplates(element: HTMLElement | null, wide: string, narrow: string) {
  element?.style.setProperty('--columns', wide)
  element?.style.setProperty('--columns-narrow', narrow)
}

/** What a list shows that has nothing: what it is for, and what to do next. */
export function Empty({ title, about, children }: { title: string; about?: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {about && <p>{about}</p>}
      {children}
    </div>
  )
}
