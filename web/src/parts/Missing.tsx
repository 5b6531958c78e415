/** What a page shows in the place of a thing that is not there or cannot be read: its name, why, and the way back. */
import { Link } from 'wouter'
import { ApiError } from '../api/client'
import { missing as said } from '../words.missing'
import { Page } from './Page'
import { Empty } from './Table'
import { Trouble } from './Trouble'

type Props = { of: keyof typeof said.of; error: unknown; retry: () => void }

export function Missing({ of, error, retry }: Props) {
  const { one, none, all, href } = said.of[of]
  const back = <Link href={href}>{all}</Link>
  if (!(error instanceof ApiError && error.status === 404))
    return (
      <Page title={one} actions={back}>
        <Trouble error={error} retry={retry} />
      </Page>
    )
  return (
    <Page title={none}>
      <Empty title={error.message} about={said.about}>
        {back}
      </Empty>
    </Page>
  )
}
