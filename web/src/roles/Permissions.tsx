/** Which permissions somebody has, and which ones they are given: in plain words, by what they are about. */
import { Checkbox } from '@mantine/core'
import { useMe } from '../api/queries'
import { mayGive, wordsOf } from '../model/permissions'
import { Facts } from '../parts/Section'
import { permissions as groups, roles as said } from '../words.roles'
import '../style/roles.css'

type ChooseProps = { chosen: string[]; set: (names: string[]) => void; leaveOut?: string[] }

export function Choose({ chosen, set, leaveOut = [] }: ChooseProps) {
  const me = useMe().data
  const turn = (name: string) =>
    set(chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name].sort())
  return (
    <div className="permissions">
      {Object.entries(groups).map(([group, words]) => (
        <fieldset key={group}>
          <legend>{group}</legend>
          {Object.entries(words)
            .filter(([name]) => !leaveOut.includes(name))
            .map(([name, text]) => (
              <Checkbox
                key={name}
                size="xs"
                label={text}
                title={name}
                checked={chosen.includes(name)}
                disabled={!mayGive(me, name)}
                onChange={() => turn(name)}
              />
            ))}
        </fieldset>
      ))}
      <p className="quiet">{said.tooMuch}</p>
    </div>
  )
}

/** All of them, by group. */
export function Listed({ names }: { names: string[] }) {
  const of = Object.entries(groups).map(
    ([group, words]) => [group, Object.keys(words).filter((name) => names.includes(name))] as [string, string[]],
  )
  return (
    <Facts
      of={of.map(([group, some]) => [
        group,
        some.length > 0 && (
          <ul className="grants">
            {some.map((name) => (
              <li key={name}>
                {wordsOf(name)} <code>{name}</code>
              </li>
            ))}
          </ul>
        ),
      ])}
    />
  )
}
