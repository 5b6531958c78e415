/** The questions that wait, for the badge, the way from one to the next, and the runs that wait for them. */
import { useMemo } from 'react'
import { useList, useMe } from '../api/queries'
import { may } from '../model/rights'

/** None for a key that may not read them: nothing is asked that would be refused. */
export function useWaiting() {
  const me = useMe()
  const isRead = may(me.data, 'run:read')
  const found = useList('/v1/approvals', {}, {}, isRead)
  const { data, hasNextPage } = found
  return useMemo(() => {
    const rows = data?.pages.flatMap((page) => page.items) ?? []
    return { rows, count: hasNextPage ? `${rows.length}+` : String(rows.length) }
  }, [data, hasNextPage])
}
