/** The questions that wait, for the badge, the way from one to the next, and the runs that wait for them. */
import { useMemo } from 'react'
import { useList, useMe } from '../api/queries'
import { may } from '../model/rights'
import { Badge, RunStatus } from '../parts/Badges'
import { words } from '../words'

/** `mine` are those that the reader may approve, which `count` counts. None for a key that may not read them: nothing is
 * asked that would be refused. */
export function useWaiting() {
  const me = useMe()
  const isRead = may(me.data, 'run:read')
  const found = useList('/v1/approvals', {}, {}, isRead)
  const { data, hasNextPage } = found
  return useMemo(() => {
    const rows = data?.pages.flatMap((page) => page.items) ?? []
    const mine = rows.filter((one) => one.refusal === null)
    const said = (n: number) => (hasNextPage ? `${n}+` : String(n))
    return { rows, mine, all: said(rows.length), count: said(mine.length), others: rows.length - mine.length }
  }, [data, hasNextPage])
}

/** How a run stands; one that waits for a person says for whom. */
export function StatusOf({ run }: { run: { id: string; status: string } }) {
  const { rows } = useWaiting()
  const asked = run.status === 'waiting' ? rows.filter((one) => one.runId === run.id) : []
  if (!asked.length) return <RunStatus status={run.status} />
  const isMine = asked.some((one) => one.refusal === null)
  return <Badge tone="dust">{isMine ? words.runs.waitsForYou : words.outcomes.asksPerson}</Badge>
}
