/** To which workflows, folders, tags, wallets and connectors a key, a person or a service account is limited. */
import { MultiSelect } from '@mantine/core'
import { useEveryOne, useMe } from '../api/queries'
import { placesOf } from '../model/newKey'
import type { Limited } from '../model/permissions'
import { may } from '../model/rights'
import { newKey as said } from '../words.keys'

type Props = { limits: Limited; set: (limits: Limited) => void }

export function Limits({ limits, set }: Props) {
  const me = useMe().data
  const workflows = useEveryOne('/v1/workflows', may(me, 'workflow:read'))
  const wallets = useEveryOne('/v1/wallets', may(me, 'wallet:read'))
  const connectors = useEveryOne('/v1/connectors', may(me, 'connector:read'))
  const places = placesOf(workflows)
  const placed = [
    ...places.folders.map(({ id, name }) => ({ id, name: said.folder(name) })),
    ...places.tags.map(({ id, name }) => ({ id, name: said.tag(name) })),
    ...workflows,
  ]
  return (
    <>
      <Only
        label={said.workflows}
        of={placed}
        ids={limits.workflowIds}
        set={(workflowIds) => set({ ...limits, workflowIds })}
      />
      <Only
        label={said.wallets}
        of={wallets}
        ids={limits.walletIds}
        set={(walletIds) => set({ ...limits, walletIds })}
      />
      <Only
        label={said.connectors}
        of={connectors}
        ids={limits.connectorIds}
        set={(connectorIds) => set({ ...limits, connectorIds })}
      />
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
