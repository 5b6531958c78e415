/** The list of every page: columns, rows that are links, page after page as one scrolls. */
import { Button } from '@mantine/core'
import { type ReactNode, useEffect, useRef } from 'react'
import { Link } from 'wouter'
import { words } from '../words'
import { Trouble } from './Trouble'

export type Column<T> = {
  title: string
  cell: (row: T) => ReactNode
  /** As in `grid-template-columns`; the first column is the row's name and takes what is left. */
  width?: string
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
}

export function Table<T>({ label, columns, found, keyOf, href, empty }: Props<T>) {
  const end = useRef<HTMLDivElement>(null)
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = found
  useEffect(() => {
    if (!hasNextPage || isFetchingNextPage || !end.current) return
    const watch = new IntersectionObserver(([seen]) => seen?.isIntersecting && fetchNextPage(), { rootMargin: '400px' })
    watch.observe(end.current)
    return () => watch.disconnect()
  }, [hasNextPage, isFetchingNextPage, fetchNextPage])
  if (found.error && !found.rows.length) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (found.isPending)
    return (
      <p className="quiet" role="status">
        {words.state.loading}
      </p>
    )
  if (!found.rows.length) return <>{empty}</>
  const template = columns.map((column, i) => column.width ?? (i ? 'auto' : 'minmax(0, 1fr)')).join(' ')
  const narrow = columns
    .filter((c) => !c.wide)
    .map((c, i) => c.width ?? (i ? 'auto' : 'minmax(0, 1fr)'))
    .join(' ')
  const look = (column: Column<T>) => `${column.align ?? ''} ${column.wide ? 'wide' : ''}`
  return (
    <div className="table" ref={(el) => setTemplates(el, template, narrow)}>
      <div role="table" aria-label={label}>
        <div role="row" className="row head">
          {columns.map((column) => (
            <span role="columnheader" key={column.title} className={look(column)}>
              {column.title}
            </span>
          ))}
        </div>
        {found.rows.map((row) => (
          <div role="row" className="row" key={keyOf(row)}>
            {columns.map((column, i) => (
              <span role="cell" key={column.title} className={look(column)}>
                {i === 0 && href ? (
                  <Link href={href(row)} className="rowlink">
                    {column.cell(row)}
                  </Link>
                ) : (
                  column.cell(row)
                )}
              </span>
            ))}
          </div>
        ))}
      </div>
      {hasNextPage && (
        <div ref={end} className="more">
          <Button variant="subtle" color="gray" loading={isFetchingNextPage} onClick={() => fetchNextPage()}>
            {words.state.moreRows}
          </Button>
        </div>
      )}
    </div>
  )
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
