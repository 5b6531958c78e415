/** To which workflows, folders, tags and wallets a key, a person or a service account is limited. */
import { MultiSelect } from '@mantine/core'
import { useEveryOne, useMe } from '../api/queries'
import { placesOf } from '../model/newKey'
import { may } from '../model/rights'
import { newKey as said } from '../words.keys'

type Props = {
  workflowIds: string[]
  setWorkflowIds: (ids: string[]) => void
  walletIds: string[]
  setWalletIds: (ids: string[]) => void
}

export function Limits({ workflowIds, setWorkflowIds, walletIds, setWalletIds }: Props) {
  const me = useMe().data
  const workflows = useEveryOne('/v1/workflows', may(me, 'workflow:read'))
  const wallets = useEveryOne('/v1/wallets', may(me, 'wallet:read'))
  const places = placesOf(workflows)
  const limits = [
    ...places.folders.map(({ id, name }) => ({ id, name: said.folder(name) })),
    ...places.tags.map(({ id, name }) => ({ id, name: said.tag(name) })),
    ...workflows,
  ]
  return (
    <>
      <Only label={said.workflows} of={limits} ids={workflowIds} set={setWorkflowIds} />
      <Only label={said.wallets} of={wallets} ids={walletIds} set={setWalletIds} />
    </>
  )
}

type OnlyProps = { label: string; of: { id: string; name: string }[]; ids: string[]; set: (ids: string[]) => void }

/** Nothing chosen: all of them. */
const Only = ({ label, of, ids, set }: OnlyProps) =>
  of.length > 0 && (
    <MultiSelect
      label={label}
      placeholder={ids.length ? undefined : said.all}
      searchable
      clearable
      clearButtonProps={{ 'aria-label': said.all }}
      data={of.map((one) => ({ value: one.id, label: one.name }))}
      value={ids}
      onChange={set}
    />
  )
