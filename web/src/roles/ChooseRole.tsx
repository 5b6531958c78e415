/** What somebody may do: a role that there is, or chosen permissions. */
import { Select } from '@mantine/core'
import { useEveryOne, useMe } from '../api/queries'
import { mayGive, told } from '../model/permissions'
import { accounts, roles as said } from '../words.roles'
import { Choose } from './Permissions'

export type Rights = { role: string | null; permissions: string[] }
export const bodyOfRights = ({ role, permissions }: Rights) => (role ? { role } : { permissions })

type Props = { label: string; rights: Rights; set: (rights: Rights) => void; leaveOut?: string[] }

export function ChooseRole({ label, rights, set, leaveOut = [] }: Props) {
  const me = useMe().data
  const fits = (names: string[]) => names.every((one) => mayGive(me, one) && !leaveOut.includes(one))
  const roles = useEveryOne('/v1/roles').filter((one) => fits(one.permissions))
  const chosen = roles.find((one) => one.name === rights.role)
  return (
    <>
      <Select
        label={label}
        description={chosen ? (chosen.description ?? told(chosen.permissions)) : said.none}
        allowDeselect={false}
        data={[...roles.map((one) => one.name), { value: '', label: accounts.chosen }]}
        value={rights.role ?? ''}
        onChange={(name) => set({ role: name || null, permissions: rights.permissions })}
      />
      {!rights.role && (
        <Choose
          chosen={rights.permissions}
          set={(permissions) => set({ role: null, permissions })}
          leaveOut={leaveOut}
        />
      )}
    </>
  )
}
