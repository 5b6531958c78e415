/** That one person alone approves what their own runs ask: said where it is missing, by whoever administers. */
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { get, patch } from '../api/client'
import { refresh, useMe } from '../api/queries'
import { may } from '../model/rights'
import { Confirm } from '../parts/Confirm'
import { approving } from '../words.approval'
import { pages } from '../words.pages'

const said = pages.keys

export const useOrganization = (isAsked = true) =>
  useQuery({ queryKey: ['/v1/organizations'], queryFn: () => get('/v1/organizations'), enabled: isAsked })

/** Each change is in the audit. */
export async function setOne(id: string, singlePersonApproves: boolean) {
  await patch('/v1/organizations/{id}', { path: { id } }, { singlePersonApproves })
  await refresh('/v1/organizations', '/v1/approvals', 'policy', '/v1/audit')
}

type Props = { id: string; isOpen: boolean; close: () => void }

export const AskOne = ({ id, isOpen, close }: Props) => (
  <Confirm title={said.oneAsk} isOpen={isOpen} close={close} go={said.oneGo} act={() => setOne(id, true)}>
    <p>{said.oneRisk}</p>
  </Confirm>
)

export function LetOne() {
  const isAdmin = may(useMe().data, 'admin')
  const own = useOrganization(isAdmin).data?.items[0]
  const [asks, setAsks] = useState(false)
  if (!isAdmin || !own) return <Link href="/keys#one">{approving.aloneLink}</Link>
  return (
    <>
      <button type="button" className="link" onClick={() => setAsks(true)}>
        {approving.aloneLink}
      </button>
      <AskOne id={own.id} isOpen={asks} close={() => setAsks(false)} />
    </>
  )
}
